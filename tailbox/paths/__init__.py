"""Which way to a peer: disco, ranking, trust, netcheck, home relay.

It knows addresses, not plaintext, and owns no socket: datagrams to send are effects, time is an argument. It does not
choose what is sent, does not map ports, and does not relay for others.
"""
