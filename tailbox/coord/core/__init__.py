"""The tailnet as an immutable snapshot, and the commands that change it. Pure."""
