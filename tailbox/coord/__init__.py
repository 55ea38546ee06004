"""The coordination role."""
