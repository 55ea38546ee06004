"""A TCP/IP host in userspace: packets to sockets and back."""
