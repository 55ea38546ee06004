"""What goes wrong when our side asks the stack for something it cannot give. Peers never cause these."""

from __future__ import annotations

from tailbox.errors import TailboxError


class StackError(TailboxError):
    """Base of what `Stack`'s own calls raise."""


class NoAddress(StackError):
    """The stack has no address of the family that the destination needs, or not the one asked for."""


class PortInUse(StackError):
    """Another socket holds this port on this address."""


class OutOfPorts(StackError):
    """Every ephemeral port towards this destination is taken."""


class LimitReached(StackError):
    """A bound of StackLimits would be exceeded."""


class InvalidDestination(StackError):
    """Multicast, broadcast and unspecified addresses, and port 0, have no connections (RFC 9293 MUST-46)."""


class SocketClosed(StackError):
    """A call on a socket that was closed, aborted or shut down for sending."""


class PayloadTooLarge(StackError):
    """A datagram that does not fit the MTU; the stack does not fragment."""
