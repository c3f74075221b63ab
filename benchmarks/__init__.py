"""How fast the daemon is where its users feel it; ``python -m benchmarks`` prints it, ``peers.md`` says how.

Each figure is taken from outside, of a daemon as users run it: a program of its own, with real children and sockets.
"""
