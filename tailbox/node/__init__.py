"""The node role: a tailnet member without root."""
