"""Which way to a peer: knows addresses, never plaintext."""
