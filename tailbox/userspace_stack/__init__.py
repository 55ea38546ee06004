"""A TCP/IP host in userspace: packets to sockets and back.

`stack.Stack` is the entry. It knows packets and sockets; routes, peers, filters and names are its owner's business. It
does not fragment or reassemble IP, and it has no SYN cookies, timestamps, ECN or pacing.
"""
