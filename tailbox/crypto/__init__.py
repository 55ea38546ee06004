"""Primitives: keys in, bytes out."""
