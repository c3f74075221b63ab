"""Who listens: one port for the WebSocket, the pages and their guard."""
