"""The relay role: DERP over HTTP, and STUN."""
