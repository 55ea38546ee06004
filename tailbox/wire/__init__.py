"""Bytes and JSON to frozen values and back. No state, no IO, no key use."""
