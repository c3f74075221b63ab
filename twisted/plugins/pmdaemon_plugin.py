"""Shows ``pmdaemon`` to twistd."""

from twisted.application.service import ServiceMaker

pmdaemon = ServiceMaker("PMDaemon", "pmdaemon.service", "A process manager with a real-time WebSocket API.", "pmdaemon")
