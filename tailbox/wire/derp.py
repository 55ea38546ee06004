"""DERP frames: type (1 byte), payload length (4, big-endian, without this header), payload.

```text
01 ServerKey      relay → client   magic 8 · relay key 32 · later additions
02 ClientInfo     client → relay   client key 32 · nonce 24, box of JSON
03 ServerInfo     relay → client   nonce 24, box of JSON
04 SendPacket     client → relay   destination key 32 · packet
05 RecvPacket     relay → client   source key 32 · packet
06 KeepAlive      relay → client   nothing
07 NotePreferred  client → relay   1 = this is my home relay, 0 = it is not
08 PeerGone       relay → client   key 32 · reason 1 (old relays: none)
09 PeerPresent    relay → mesh     key 32 · IP 16 · port 2 · flags 1 (old relays: less)
0a ForwardPacket  mesh → relay     source key 32 · destination key 32 · packet
10 WatchConns     mesh → relay     nothing
11 ClosePeer      mesh → relay     key 32
12 Ping, 13 Pong  both             8 bytes
14 Health         relay → client   UTF-8 text, empty = healthy again
15 Restarting     relay → client   reconnect in, try for: 4 + 4, milliseconds
```

A frame is written in one piece by its class, and read in two steps: `derp_stream.FrameSplitter` cuts the stream,
`decode_frame` gives a payload its meaning. A relay forwards packets after the first step alone.
Source: tailscale derp/derp.go, protocol version 2.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final, Self

from tailbox.errors import Malformed, Truncated
from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import KEY_BYTES, NodePublicKey

PROTOCOL_VERSION = 2
MAGIC = b"DERP\xf0\x9f\x94\x91"  # derp.go Magic: "DERP" and U+1F511
FRAME_HEADER = struct.Struct(">BI")
MAX_PACKET_BYTES = 64 * 1024  # derp.go MaxPacketSize: what a node sees, framing excluded
NONCE_BYTES = 24
PING_BYTES = 8
_MILLISECONDS = 1000


class FrameType(IntEnum):
    """The first byte of every frame."""

    SERVER_KEY = 0x01
    CLIENT_INFO = 0x02
    SERVER_INFO = 0x03
    SEND_PACKET = 0x04
    RECV_PACKET = 0x05
    KEEP_ALIVE = 0x06
    NOTE_PREFERRED = 0x07
    PEER_GONE = 0x08
    PEER_PRESENT = 0x09
    FORWARD_PACKET = 0x0A
    WATCH_CONNS = 0x10
    CLOSE_PEER = 0x11
    PING = 0x12
    PONG = 0x13
    HEALTH = 0x14
    RESTARTING = 0x15


class PeerGoneReason(IntEnum):
    """Why a peer cannot be reached through this relay. Values not listed are read as DISCONNECTED."""

    DISCONNECTED = 0x00  # its last connection to the region ended
    NOT_HERE = 0x01  # the relay never knew it: an answer to a disco packet

    @classmethod
    def _missing_(cls, value: object) -> PeerGoneReason:
        return cls.DISCONNECTED


class PresenceFlags(IntFlag):
    """What a relay tells mesh peers of a connection. Zero: the relay is too old to say."""

    REGULAR = 1
    MESH_PEER = 2
    PROBER = 4
    NOT_IDEAL = 8


UNKNOWN_PRESENCE = PresenceFlags(0)


def encode_frame(frame_type: FrameType, payload: bytes = b"") -> bytes:
    """Header and payload."""
    return FRAME_HEADER.pack(frame_type, len(payload)) + payload


@dataclass(frozen=True, slots=True)
class ServerKey:
    """The relay's greeting."""

    key: NodePublicKey

    def encode(self) -> bytes:
        return encode_frame(FrameType.SERVER_KEY, MAGIC + self.key.raw)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated and Malformed. Bytes after the key are for later versions and ignored."""
        if payload[: len(MAGIC)] != MAGIC[: len(payload)]:
            raise Malformed("ServerKey without the magic")
        return cls(_key(payload, len(MAGIC)))


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """The client's login: its key in the clear, the rest sealed from that key to the relay's."""

    key: NodePublicKey
    sealed: bytes

    def encode(self) -> bytes:
        return encode_frame(FrameType.CLIENT_INFO, self.key.raw + self.sealed)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated."""
        if len(payload) < KEY_BYTES + NONCE_BYTES:
            raise Truncated(f"ClientInfo of {len(payload)} bytes")
        return cls(_key(payload), payload[KEY_BYTES:])


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The relay's answer to a login, sealed to the client."""

    sealed: bytes

    def encode(self) -> bytes:
        return encode_frame(FrameType.SERVER_INFO, self.sealed)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated."""
        if len(payload) < NONCE_BYTES:
            raise Truncated(f"ServerInfo of {len(payload)} bytes")
        return cls(payload)


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Ask the relay to pass one packet to a peer."""

    destination: NodePublicKey
    packet: bytes

    def encode(self) -> bytes:
        return encode_frame(FrameType.SEND_PACKET, self.destination.raw + self.packet)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated, and Malformed if the packet exceeds MAX_PACKET_BYTES."""
        return cls(_key(payload), _packet(payload, KEY_BYTES))


@dataclass(frozen=True, slots=True)
class RecvPacket:
    """One packet from a peer."""

    source: NodePublicKey
    packet: bytes

    def encode(self) -> bytes:
        return encode_frame(FrameType.RECV_PACKET, self.source.raw + self.packet)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated, and Malformed if the packet exceeds MAX_PACKET_BYTES."""
        return cls(_key(payload), _packet(payload, KEY_BYTES))


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing to say, once a minute."""

    def encode(self) -> bytes:
        return encode_frame(FrameType.KEEP_ALIVE)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls()


@dataclass(frozen=True, slots=True)
class NotePreferred:
    """Whether the client calls this relay its home. Statistics only."""

    is_home: bool

    def encode(self) -> bytes:
        return encode_frame(FrameType.NOTE_PREFERRED, bytes((self.is_home,)))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Malformed: the length is exactly 1."""
        if len(payload) != 1:
            raise Malformed(f"NotePreferred of {len(payload)} bytes")
        return cls(payload[0] != 0)


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A peer cannot be reached through this relay."""

    peer: NodePublicKey
    reason: PeerGoneReason = PeerGoneReason.DISCONNECTED

    def encode(self) -> bytes:
        return encode_frame(FrameType.PEER_GONE, self.peer.raw + bytes((self.reason,)))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated. A missing reason is DISCONNECTED."""
        peer = _key(payload)
        return cls(
            peer, PeerGoneReason(payload[KEY_BYTES]) if len(payload) > KEY_BYTES else PeerGoneReason.DISCONNECTED
        )


@dataclass(frozen=True, slots=True)
class PeerPresent:
    """A client of the relay, told to its mesh peers."""

    peer: NodePublicKey
    endpoint: Endpoint | None = None  # None: the relay does not know, or is old
    flags: PresenceFlags = UNKNOWN_PRESENCE

    def encode(self) -> bytes:
        """51 bytes of payload; an unknown endpoint is 18 zero bytes."""
        ip, port = bytes(16), 0
        if self.endpoint is not None:
            packed = self.endpoint.ip.packed
            ip, port = packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed, self.endpoint.port
        return encode_frame(FrameType.PEER_PRESENT, self.peer.raw + ip + struct.pack(">HB", port, self.flags))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated. What an old relay leaves out has its default."""
        peer, rest = _key(payload), payload[KEY_BYTES:]
        endpoint = None
        if len(rest) >= 18 and any(rest[:18]):
            ip = ipaddress.IPv6Address(rest[:16])
            endpoint = Endpoint(ip.ipv4_mapped or ip, int.from_bytes(rest[16:18], "big"))
        return cls(peer, endpoint, PresenceFlags(rest[18] & 0x0F) if len(rest) > 18 else UNKNOWN_PRESENCE)


@dataclass(frozen=True, slots=True)
class ForwardPacket:
    """A packet that one relay of a region passes to another."""

    source: NodePublicKey
    destination: NodePublicKey
    packet: bytes

    def encode(self) -> bytes:
        return encode_frame(FrameType.FORWARD_PACKET, self.source.raw + self.destination.raw + self.packet)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated, and Malformed if the packet exceeds MAX_PACKET_BYTES."""
        return cls(_key(payload), _key(payload, KEY_BYTES), _packet(payload, 2 * KEY_BYTES))


@dataclass(frozen=True, slots=True)
class WatchConns:
    """A mesh peer asks to be told who comes and goes."""

    def encode(self) -> bytes:
        return encode_frame(FrameType.WATCH_CONNS)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Malformed: there is no payload."""
        if payload:
            raise Malformed(f"WatchConns of {len(payload)} bytes")
        return cls()


@dataclass(frozen=True, slots=True)
class ClosePeer:
    """A mesh peer asks to close every connection of a key."""

    peer: NodePublicKey

    def encode(self) -> bytes:
        return encode_frame(FrameType.CLOSE_PEER, self.peer.raw)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Malformed: the payload is exactly one key."""
        if len(payload) != KEY_BYTES:
            raise Malformed(f"ClosePeer of {len(payload)} bytes")
        return cls(_key(payload))


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a Pong with the same 8 bytes."""

    data: bytes

    def encode(self) -> bytes:
        return encode_frame(FrameType.PING, self.data)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated. Bytes after the eighth are ignored."""
        return cls(_prefix(payload, "Ping"))


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a Ping."""

    data: bytes

    def encode(self) -> bytes:
        return encode_frame(FrameType.PONG, self.data)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated. Bytes after the eighth are ignored."""
        return cls(_prefix(payload, "Pong"))


@dataclass(frozen=True, slots=True)
class Health:
    """What is wrong with this connection, for the user to read; empty when all is well again."""

    text: str

    def encode(self) -> bytes:
        return encode_frame(FrameType.HEALTH, self.text.encode())

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Bytes that are not UTF-8 show as U+FFFD."""
        return cls(payload.decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Restarting:
    """The relay goes down for a moment."""

    reconnect_in_s: float
    try_for_s: float

    def encode(self) -> bytes:
        milliseconds = (round(self.reconnect_in_s * _MILLISECONDS), round(self.try_for_s * _MILLISECONDS))
        return encode_frame(FrameType.RESTARTING, struct.pack(">II", *milliseconds))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises Truncated."""
        if len(payload) < 8:
            raise Truncated(f"Restarting of {len(payload)} bytes")
        reconnect_in_ms, try_for_ms = struct.unpack_from(">II", payload)
        return cls(reconnect_in_ms / _MILLISECONDS, try_for_ms / _MILLISECONDS)


@dataclass(frozen=True, slots=True)
class UnknownFrame:
    """A frame of a later version: skipped, never an error."""

    frame_type: int
    payload: bytes = field(repr=False)

    def encode(self) -> bytes:
        return FRAME_HEADER.pack(self.frame_type, len(self.payload)) + self.payload


KnownFrame = (
    ServerKey | ClientInfo | ServerInfo | SendPacket | RecvPacket | KeepAlive | NotePreferred | PeerGone | PeerPresent
    | ForwardPacket | WatchConns | ClosePeer | Ping | Pong | Health | Restarting
)  # fmt: skip
Frame = KnownFrame | UnknownFrame

_CLASSES: Final[Mapping[int, type[KnownFrame]]] = {
    FrameType.SERVER_KEY: ServerKey,
    FrameType.CLIENT_INFO: ClientInfo,
    FrameType.SERVER_INFO: ServerInfo,
    FrameType.SEND_PACKET: SendPacket,
    FrameType.RECV_PACKET: RecvPacket,
    FrameType.KEEP_ALIVE: KeepAlive,
    FrameType.NOTE_PREFERRED: NotePreferred,
    FrameType.PEER_GONE: PeerGone,
    FrameType.PEER_PRESENT: PeerPresent,
    FrameType.FORWARD_PACKET: ForwardPacket,
    FrameType.WATCH_CONNS: WatchConns,
    FrameType.CLOSE_PEER: ClosePeer,
    FrameType.PING: Ping,
    FrameType.PONG: Pong,
    FrameType.HEALTH: Health,
    FrameType.RESTARTING: Restarting,
}


def decode_frame(frame_type: int, payload: bytes) -> Frame:
    """Give a payload its meaning. Raises Truncated and Malformed; unknown types are UnknownFrame."""
    found = _CLASSES.get(frame_type)
    return UnknownFrame(frame_type, payload) if found is None else found.decode(payload)


def _key(payload: bytes, offset: int = 0) -> NodePublicKey:
    raw = payload[offset : offset + KEY_BYTES]
    if len(raw) < KEY_BYTES:
        raise Truncated(f"{len(payload)} bytes where {offset + KEY_BYTES} were wanted")
    return NodePublicKey(raw)


def _packet(payload: bytes, offset: int) -> bytes:
    if len(payload) - offset > MAX_PACKET_BYTES:
        raise Malformed(f"packet of {len(payload) - offset} bytes")
    return payload[offset:]


def _prefix(payload: bytes, name: str) -> bytes:
    if len(payload) < PING_BYTES:
        raise Truncated(f"{name} of {len(payload)} bytes")
    return payload[:PING_BYTES]
