"""SOCKS5 messages, as a server reads and writes them.

```text
greeting       VER=5 | NMETHODS | METHODS…                                  client → server
method         VER=5 | METHOD                                               server → client
credentials    VER=1 | ULEN | user | PLEN | password                        client → server (RFC 1929)
verdict        VER=1 | STATUS (0 = welcome)                                 server → client
request        VER=5 | CMD | RSV=0 | ATYP | address | port (2, big-endian)  client → server
reply          VER=5 | REP | RSV=0 | ATYP | address | port                  server → client
UDP datagram   RSV=0 (2) | FRAG | ATYP | address | port | payload           both ways
address        ATYP 1: 4 bytes · ATYP 3: length, name · ATYP 4: 16 bytes
```
Sources: RFC 1928, RFC 1929. Decoders of stream messages take what has arrived so far, and return the message and how
many bytes it took, or None while it is incomplete.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from tailbox.errors import Malformed, Truncated, UnsupportedVersion
from tailbox.wire.addresses import Endpoint, IPAddress

VERSION = 5
CREDENTIALS_VERSION = 1
MAX_MESSAGE_BYTES = 513  # the longest client message: credentials with both fields full


class Method(IntEnum):
    """RFC 1928 §3."""

    NO_AUTHENTICATION = 0x00
    USER_AND_PASSWORD = 0x02
    NONE_ACCEPTABLE = 0xFF


class Command(IntEnum):
    """RFC 1928 §4."""

    CONNECT = 0x01
    BIND = 0x02
    UDP_ASSOCIATE = 0x03


class ReplyCode(IntEnum):
    """RFC 1928 §6."""

    SUCCEEDED = 0x00
    GENERAL_FAILURE = 0x01
    NOT_ALLOWED = 0x02
    NETWORK_UNREACHABLE = 0x03
    HOST_UNREACHABLE = 0x04
    CONNECTION_REFUSED = 0x05
    TTL_EXPIRED = 0x06
    COMMAND_NOT_SUPPORTED = 0x07
    ADDRESS_TYPE_NOT_SUPPORTED = 0x08


class AddressType(IntEnum):
    """RFC 1928 §5."""

    IPV4 = 0x01
    NAME = 0x03
    IPV6 = 0x04


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to: an address or a name, and a port."""

    host: IPAddress | str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if isinstance(self.host, str) else str(Endpoint(self.host, self.port))

    def encode(self) -> bytes:
        """ATYP, address, port. Raises Malformed for names over 255 bytes."""
        port = self.port.to_bytes(2, "big")
        if isinstance(self.host, IPv4Address):
            return bytes((AddressType.IPV4,)) + self.host.packed + port
        if isinstance(self.host, IPv6Address):
            return bytes((AddressType.IPV6,)) + self.host.packed + port
        name = self.host.encode()
        if not 0 < len(name) <= 255:
            raise Malformed(f"name of {len(name)} bytes")
        return bytes((AddressType.NAME, len(name))) + name + port

    @classmethod
    def decode(cls, data: bytes | memoryview) -> tuple[Self, int] | None:
        """Raises Malformed for unknown address types, empty names and names that are not text."""
        if not data:
            return None
        kind = data[0]
        if kind == AddressType.NAME:
            if len(data) < 2:
                return None
            start, size = 2, data[1]
        elif kind in (AddressType.IPV4, AddressType.IPV6):
            start, size = 1, 4 if kind == AddressType.IPV4 else 16
        else:
            raise Malformed(f"SOCKS address type {kind}")
        end = start + size
        if len(data) < end + 2:
            return None
        raw, port = bytes(data[start:end]), int.from_bytes(data[end : end + 2], "big")
        return cls(_host(kind, raw), port), end + 2


@dataclass(frozen=True, slots=True)
class Greeting:
    """The methods a client offers."""

    methods: frozenset[int]

    @classmethod
    def decode(cls, data: bytes) -> tuple[Self, int] | None:
        """Raises UnsupportedVersion."""
        if data and data[0] != VERSION:
            raise UnsupportedVersion(f"SOCKS version {data[0]}")
        if len(data) < 2 or len(data) < 2 + data[1]:
            return None
        end = 2 + data[1]
        return cls(frozenset(data[2:end])), end

    def encode(self) -> bytes:
        return bytes((VERSION, len(self.methods), *sorted(self.methods)))


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password; neither appears in `repr`."""

    user: bytes = field(repr=False)
    password: bytes = field(repr=False)

    @classmethod
    def decode(cls, data: bytes) -> tuple[Self, int] | None:
        """Raises UnsupportedVersion."""
        if data and data[0] != CREDENTIALS_VERSION:
            raise UnsupportedVersion(f"SOCKS credentials version {data[0]}")
        if len(data) < 2 or len(data) < 3 + data[1]:
            return None
        middle = 2 + data[1]
        end = middle + 1 + data[middle]
        if len(data) < end:
            return None
        return cls(data[2:middle], data[middle + 1 : end]), end

    def encode(self) -> bytes:
        head = bytes((CREDENTIALS_VERSION, len(self.user)))
        return head + self.user + bytes((len(self.password),)) + self.password


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants done. Unknown commands are kept as their number."""

    command: int
    destination: Destination

    @classmethod
    def decode(cls, data: bytes) -> tuple[Self, int] | None:
        """Raises UnsupportedVersion, Malformed."""
        found = _decode_message(data)
        return None if found is None else (cls(found[0], found[1]), found[2])

    def encode(self) -> bytes:
        return bytes((VERSION, self.command, 0)) + self.destination.encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """The server's answer to a Request."""

    code: ReplyCode
    bound: Destination = Destination(IPv4Address(0), 0)

    def encode(self) -> bytes:
        return bytes((VERSION, self.code, 0)) + self.bound.encode()

    @classmethod
    def decode(cls, data: bytes) -> tuple[Self, int] | None:
        """Raises UnsupportedVersion, Malformed."""
        found = _decode_message(data)
        if found is None:
            return None
        try:
            return cls(ReplyCode(found[0]), found[1]), found[2]
        except ValueError:
            raise Malformed(f"SOCKS reply {found[0]}") from None


@dataclass(frozen=True, slots=True)
class UdpDatagram:
    """One datagram of a UDP association. Fragments are not supported, as RFC 1928 §7 allows."""

    destination: Destination
    payload: bytes

    def encode(self) -> bytes:
        return bytes(3) + self.destination.encode() + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises Truncated, Malformed."""
        if len(data) < 4:
            raise Truncated(f"SOCKS datagram of {len(data)} bytes")
        if data[2]:
            raise Malformed("fragmented SOCKS datagram")
        found = Destination.decode(data[3:])
        if found is None:
            raise Truncated(f"SOCKS datagram of {len(data)} bytes")
        return cls(found[0], data[3 + found[1] :])


def method_selection(method: Method) -> bytes:
    """The server's answer to a Greeting."""
    return bytes((VERSION, method))


def credentials_verdict(*, welcome: bool) -> bytes:
    """The server's answer to Credentials."""
    return bytes((CREDENTIALS_VERSION, 0 if welcome else 1))


def _host(kind: int, raw: bytes) -> IPAddress | str:
    if kind == AddressType.IPV4:
        return IPv4Address(raw)
    if kind == AddressType.IPV6:
        return IPv6Address(raw)
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise Malformed("SOCKS name is not UTF-8") from None
    if not name or any(character <= " " or character == "\x7f" for character in name):
        raise Malformed("SOCKS name is empty or has control characters")
    return name


def _decode_message(data: bytes) -> tuple[int, Destination, int] | None:
    """What requests and replies share (RFC 1928 §4, §6): second byte, destination, length; None while incomplete.

    Raises UnsupportedVersion, Malformed.
    """
    if data and data[0] != VERSION:
        raise UnsupportedVersion(f"SOCKS version {data[0]}")
    if len(data) < 4:
        return None
    found = Destination.decode(data[3:])
    return None if found is None else (data[1], found[0], 3 + found[1])
