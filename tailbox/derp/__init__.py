"""The relay role: a DERP server with STUN beside it, interoperable with Tailscale's clients.

Not here: links between the relays of a region, whose place is `mesh.py`.
"""
