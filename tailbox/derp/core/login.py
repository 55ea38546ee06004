"""The login that opens every relay connection, both ends of it: ServerKey, ClientInfo, ServerInfo.

```text
client                                relay
  │ ◄──────────── ServerKey ─────────── │   always, fast start too
  │ ── ClientInfo: key, box(JSON) ────► │   opens only with the key it names: the client is who it says
  │ ◄──── ServerInfo: box(JSON) ─────── │   opens only with the relay's key
```

The JSON is Go's: names are compared without regard to case, and unknown ones ignored.
Source: tailscale derp/derp_client.go, derp/derpserver/derpserver.go; spec: derp.md §6.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from tailbox.crypto.box import SharedBox
from tailbox.crypto.x25519 import node_public
from tailbox.errors import AuthenticationError, Malformed, WireError
from tailbox.randomness import RandomSource
from tailbox.wire.derp import (
    FRAME_HEADER,
    PROTOCOL_VERSION,
    ClientInfo,
    FrameType,
    ServerInfo,
    ServerKey,
)
from tailbox.wire.keys import KEY_BYTES, NodePrivateKey, NodePublicKey

MAX_CLIENT_INFO_BYTES = 16 * 1024  # ours: upstream takes 256 KiB, and sends some hundred bytes
MAX_APP_NAME_CHARACTERS = 64  # ours

Value = TypeVar("Value", int, bool, str)


@dataclass(frozen=True, slots=True)
class ClientClaims:
    """What a client says of itself, sealed."""

    version: int = PROTOCOL_VERSION
    mesh_key: bytes = field(default=b"", repr=False)  # 32 bytes shared by the relays of a region, or none
    can_ack_pings: bool = False
    is_prober: bool = False
    app_name: str = ""

    def encode(self) -> bytes:
        """The JSON that Go writes."""
        fields: dict[str, object] = {"meshKey": self.mesh_key.hex()} if self.mesh_key else {}
        fields |= {"version": self.version, "CanAckPings": self.can_ack_pings}
        if self.is_prober:
            fields["IsProber"] = True
        if self.app_name:
            fields["AppName"] = self.app_name
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> ClientClaims:
        """Raises Malformed. A mesh key that is there must be 64 hex digits; an empty one is none."""
        fields = _go_object(data)
        mesh_text = _field(fields, "meshkey", "")
        try:
            mesh_key = bytes.fromhex(mesh_text)
        except ValueError:
            raise Malformed("mesh key is not hexadecimal") from None
        if mesh_key and (len(mesh_key) != KEY_BYTES or len(mesh_text) != 2 * KEY_BYTES):
            raise Malformed("mesh key of the wrong size")
        return cls(
            version=_field(fields, "version", 0),
            mesh_key=mesh_key,
            can_ack_pings=_field(fields, "canackpings", False),
            is_prober=_field(fields, "isprober", False),
            app_name=_field(fields, "appname", "")[:MAX_APP_NAME_CHARACTERS],
        )


@dataclass(frozen=True, slots=True)
class ServerClaims:
    """What a relay says of itself, sealed. A bucket of zero is no limit."""

    version: int = PROTOCOL_VERSION
    token_bucket_bytes_per_second: int = 0
    token_bucket_bytes_burst: int = 0

    def encode(self) -> bytes:
        fields = {"version": self.version}
        if self.token_bucket_bytes_per_second:
            fields["TokenBucketBytesPerSecond"] = self.token_bucket_bytes_per_second
        if self.token_bucket_bytes_burst:
            fields["TokenBucketBytesBurst"] = self.token_bucket_bytes_burst
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> ServerClaims:
        """Raises Malformed."""
        fields = _go_object(data)
        return cls(
            version=_field(fields, "version", 0),
            token_bucket_bytes_per_second=max(0, _field(fields, "tokenbucketbytespersecond", 0)),
            token_bucket_bytes_burst=max(0, _field(fields, "tokenbucketbytesburst", 0)),
        )


class ServerLoginState(Enum):
    """Where the relay's side of a login stands."""

    AWAITING_CLIENT_INFO = "awaiting client info"
    AWAITING_VERDICT = "awaiting verdict"  # the client is proven; whether it may enter is the owner's question
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ClientProven:
    """The client holds the private half of `key`."""

    key: NodePublicKey
    claims: ClientClaims


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The connection must be closed without a word: there is no error frame before the ServerInfo."""

    reason: str


class ServerLogin:
    """The relay's side of one login: `greeting()`, bytes in until somebody is proven, `admit()`."""

    def __init__(self, private_key: NodePrivateKey, *, random: RandomSource) -> None:
        self._private_key = private_key
        self._random = random
        self._box: SharedBox | None = None
        self._received = bytearray()
        self.state = ServerLoginState.AWAITING_CLIENT_INFO

    def greeting(self) -> bytes:
        """The ServerKey frame, first on every connection."""
        return ServerKey(node_public(self._private_key)).encode()

    def receive_bytes(self, data: bytes) -> ClientProven | LoginFailed | None:
        """None: more is wanted. Bytes after the ClientInfo are kept for `take_rest`: clients do not wait."""
        self._received += data
        if self.state is not ServerLoginState.AWAITING_CLIENT_INFO or len(self._received) < FRAME_HEADER.size:
            return None
        frame_type, length = FRAME_HEADER.unpack_from(self._received)
        if frame_type != FrameType.CLIENT_INFO:
            return self._fail(f"first frame is of type {frame_type:#04x}")
        if length > MAX_CLIENT_INFO_BYTES:
            return self._fail(f"ClientInfo of {length} bytes")
        end = FRAME_HEADER.size + length
        if len(self._received) < end:
            return None
        payload = bytes(self._received[FRAME_HEADER.size : end])
        del self._received[:end]
        return self._prove(payload)

    def admit(self, claims: ServerClaims) -> bytes:
        """The ServerInfo frame: the client is in. It must be registered before this is sent."""
        assert self.state is ServerLoginState.AWAITING_VERDICT, self.state
        assert self._box is not None
        self.state = ServerLoginState.READY
        return ServerInfo(self._box.seal(claims.encode(), self._random)).encode()

    def take_rest(self) -> bytes:
        """What the client sent after its ClientInfo. The owner bounds it: it stops reading until it has admitted."""
        rest, self._received = bytes(self._received), bytearray()
        return rest

    def _prove(self, payload: bytes) -> ClientProven | LoginFailed:
        try:
            info = ClientInfo.decode(payload)
            box = SharedBox(self._private_key, info.key)
            claims = ClientClaims.decode(box.open(info.sealed))
        except (WireError, AuthenticationError) as error:
            return self._fail(str(error))
        self._box = box
        self.state = ServerLoginState.AWAITING_VERDICT
        return ClientProven(info.key, claims)

    def _fail(self, reason: str) -> LoginFailed:
        self.state = ServerLoginState.FAILED
        self._received.clear()
        return LoginFailed(reason)


def _go_object(data: bytes) -> dict[str, object]:
    """A JSON object with lower-case names. Raises Malformed."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("login information is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("login information is not a JSON object")
    return {name.lower(): value for name, value in found.items()}


def _field(fields: dict[str, object], name: str, default: Value) -> Value:
    """A field of the default's type; absent and null are the default. Raises Malformed."""
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not type(default):
        raise Malformed(f"login information: {name} is no {type(default).__name__}")
    return value
