"""How fast the daemon is where its users feel it; ``python -m benchmarks`` measures it beside its peers.

Each figure is taken from outside, of a daemon as users run it: a program of its own, with real children and sockets.
"""
