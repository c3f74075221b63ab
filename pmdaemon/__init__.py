"""PMDaemon: a process manager for one machine, with a real-time WebSocket API."""

__all__ = ["__version__"]

__version__ = "0.1.0"
