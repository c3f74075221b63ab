"""What is said: the WebSocket API without I/O. Imports nothing of ours but ``core`` and ``errors``."""
