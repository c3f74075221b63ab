"""The console script ``pmdaemon``: talks to people at a terminal and to scripts. Loads neither Twisted nor Autobahn."""
