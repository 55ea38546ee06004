"""Rows and the journal on disk."""
