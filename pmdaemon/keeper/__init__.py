"""The process that outlives the daemon: it owns the children, moves their output to the logs, keeps how they ended.

Standard library only, and nothing of ours from outside this package: what is loaded here stays in memory for as long
as any child lives, and is replaced without any of them noticing.
"""
