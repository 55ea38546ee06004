"""A WireGuard endpoint that knows peers by key, not by address. Enter by `tunnels.Tunnels`."""
