"""The access language: the coordinator compiles it, nodes match packets against it."""
