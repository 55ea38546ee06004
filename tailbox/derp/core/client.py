"""The client end of one relay connection, for nodes and for mesh links: login, then packets both ways.

```text
             data_to_send()            receive_bytes()
UPGRADING    GET /derp, Upgrade        HTTP/1.1 101 …            skipped in fast start and over WebSocket
GREETING     —                         ServerKey
LOGGING_IN   ClientInfo                ServerInfo → LoggedIn
READY        what send() returned      PacketsReceived, Received
FAILED       nothing                   nothing: PeerViolation was the last event
```

Driver's contract: write `data_to_send()` after construction and after every `receive_bytes`; write what `send` and
`send_train` return. Replies such as Pong are the owner's decision.
Source: tailscale derp/derp_client.go, derp/derphttp/derphttp_client.go; spec: derp.md §2, §6, §19.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tailbox.crypto.box import SharedBox
from tailbox.crypto.x25519 import node_public
from tailbox.derp.core.login import ClientClaims, ServerClaims
from tailbox.errors import AuthenticationError, LocalProtocolError, Malformed, WireError
from tailbox.randomness import RandomSource
from tailbox.wire.derp import (
    FRAME_HEADER,
    MAX_PACKET_BYTES,
    ClientInfo,
    Frame,
    FrameType,
    Restarting,
    ServerInfo,
    ServerKey,
    decode_frame,
)
from tailbox.wire.derp_stream import MAX_FRAME_BYTES, FrameSplitter
from tailbox.wire.keys import KEY_BYTES, NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train

MAX_GREETING_BYTES = 1024  # derp_client.go: ServerKey may grow up to this
MAX_SERVER_INFO_BYTES = 64 * 1024  # ours: upstream would take 1 MiB
MAX_HEAD_BYTES = 16 * 1024  # ours: the response to the upgrade
MAX_RESTART_WAIT_S = 30.0  # ours: a relay cannot keep us away for longer
MAX_RESTART_TRY_S = 300.0  # ours
MAX_KNOWN_SOURCES = 1024  # ours: key objects kept for peers heard lately
METACERT_PREFIX = "derpkey"  # derpconst.go: common name of the certificate that carries the relay's key

_LIMITS: Mapping[int, int] = {
    FrameType.SERVER_KEY: MAX_GREETING_BYTES,
    FrameType.SERVER_INFO: MAX_SERVER_INFO_BYTES,
    FrameType.RECV_PACKET: KEY_BYTES + MAX_PACKET_BYTES,
}
# What a relay may send to a client that is in. Everything else is skipped, and so are short ones of these.
_READ_WHEN_READY = frozenset(
    (
        FrameType.KEEP_ALIVE,
        FrameType.PEER_GONE,
        FrameType.PEER_PRESENT,
        FrameType.PING,
        FrameType.PONG,
        FrameType.HEALTH,
        FrameType.RESTARTING,
    )
)


class ClientState(Enum):
    """Where the connection stands."""

    UPGRADING = "upgrading"
    GREETING = "greeting"
    LOGGING_IN = "logging in"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HttpUpgrade:
    """How to enter over plain HTTP/1.1. A WebSocket carries the frames from the first byte and needs none of this."""

    host: str  # the Host header: name, and port unless it is the scheme's own
    path: str = "/derp"
    ideal_node: str = ""  # name of the region's first node, when connected to another

    def encode(self, *, fast_start: bool) -> bytes:
        """The request head."""
        lines = [f"GET {self.path} HTTP/1.1", f"Host: {self.host}", "User-Agent: Tailbox"]
        lines += ["Connection: Upgrade", "Upgrade: DERP"]
        if self.ideal_node:
            lines.append(f"Ideal-Node: {self.ideal_node}")
        if fast_start:
            lines.append("Derp-Fast-Start: 1")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The relay let us in; packets may go."""

    server_key: NodePublicKey
    claims: ServerClaims


@dataclass(frozen=True, slots=True)
class PacketsReceived:
    """A run of packets from one peer. The source is the relay's word only, until WireGuard or disco proves it."""

    source: NodePublicKey
    packets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Received:
    """Any frame but packets and those of the login."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class PeerViolation:
    """The relay broke the protocol or refused the upgrade: the last event, the connection must be closed."""

    reason: str


DerpEvent = LoggedIn | PacketsReceived | Received | PeerViolation


class DerpClient:
    """One connection to a relay, without the connection."""

    def __init__(
        self,
        private_key: NodePrivateKey,
        *,
        random: RandomSource,
        upgrade: HttpUpgrade | None = None,
        server_key: NodePublicKey | None = None,
        claims: ClientClaims | None = None,
    ) -> None:
        """`upgrade`: None over a WebSocket. `server_key`: known from the TLS certificates, for the fast start."""
        self._private_key = private_key
        self._random = random
        self._claims = claims or ClientClaims(can_ack_pings=True)
        self._splitter = FrameSplitter(_LIMITS, other_limit=MAX_FRAME_BYTES)
        self._head = bytearray()
        self._output = b""
        self._box: SharedBox | None = None
        self._sources: dict[bytes, NodePublicKey] = {}
        self.server_key = server_key
        self.skipped_frames = 0  # too short or of unknown type
        self.state = ClientState.GREETING if upgrade is None else ClientState.UPGRADING
        if upgrade is not None:
            self._output = upgrade.encode(fast_start=server_key is not None)
            if server_key is not None:
                self._log_in(server_key)

    def data_to_send(self) -> bytes:
        """What the login wants written now; empty when nothing."""
        output, self._output = self._output, b""
        return output

    def send(self, frame: Frame) -> bytes:
        """The bytes of a frame. Raises LocalProtocolError before LoggedIn and after a violation."""
        self._check_ready()
        return frame.encode()

    def send_train(self, destination: NodePublicKey, train: Train) -> bytes:
        """SendPacket frames for a whole train, in one piece. Raises LocalProtocolError like `send`."""
        self._check_ready()
        return encode_train(destination, train)

    def receive_bytes(self, data: bytes) -> list[DerpEvent]:
        """Never raises: a violation is the last event, and later bytes are ignored."""
        if self.state is ClientState.UPGRADING:
            rest, violation = self._receive_head(data)
            if violation is not None:
                return [violation]
            data = rest
        if self._has_failed or self.state is ClientState.UPGRADING:
            return []
        frames = self._splitter.feed(data)
        logged_in = self.state is ClientState.READY
        events = self._receive_frames(frames) if logged_in else self._receive_login(frames)
        if self._splitter.error is not None and not self._has_failed:
            events.append(self._violation(str(self._splitter.error)))
        return events

    # Login.

    def _receive_head(self, data: bytes) -> tuple[bytes, PeerViolation | None]:
        """Bytes after the response head, once it is complete."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return b"", self._violation("endless response head") if len(self._head) > MAX_HEAD_BYTES else None
        status = bytes(self._head[: self._head.find(b"\r\n")])
        rest = bytes(self._head[end + 4 :])
        self._head.clear()
        version, _, code = status.partition(b" ")
        if not version.startswith(b"HTTP/1.") or code[:3] != b"101":
            return b"", self._violation(f"relay answered {status[:80].decode('latin-1')!r}")
        self.state = ClientState.GREETING
        return rest, None

    def _receive_login(self, frames: list[tuple[int, bytes]]) -> list[DerpEvent]:
        for index, (frame_type, payload) in enumerate(frames):
            try:
                logged_in = self._login_frame(frame_type, payload)
            except (WireError, AuthenticationError) as error:
                return [self._violation(f"login: {error}")]
            if logged_in is not None:
                return [logged_in, *self._receive_frames(frames[index + 1 :])]
        return []

    def _login_frame(self, frame_type: int, payload: bytes) -> LoggedIn | None:
        """Raises WireError and AuthenticationError."""
        if frame_type == FrameType.SERVER_KEY:
            greeting = ServerKey.decode(payload)
            if self.state is ClientState.GREETING:
                self._log_in(greeting.key)
            return None  # after a fast start it comes late, and says nothing new
        if self.state is not ClientState.LOGGING_IN or frame_type != FrameType.SERVER_INFO:
            raise Malformed(f"frame of type {frame_type:#04x} before its time")
        assert self._box is not None
        assert self.server_key is not None
        claims = ServerClaims.decode(self._box.open(ServerInfo.decode(payload).sealed))
        self.state = ClientState.READY
        return LoggedIn(self.server_key, claims)

    def _log_in(self, server_key: NodePublicKey) -> None:
        """Raises AuthenticationError for a relay key of low order."""
        self._box = SharedBox(self._private_key, server_key)
        self.server_key = server_key
        self.state = ClientState.LOGGING_IN
        sealed = self._box.seal(self._claims.encode(), self._random)
        self._output += ClientInfo(node_public(self._private_key), sealed).encode()

    # After it.

    def _receive_frames(self, frames: list[tuple[int, bytes]]) -> list[DerpEvent]:
        events: list[DerpEvent] = []
        run_source, run = b"", list[bytes]()
        for frame_type, payload in frames:
            if frame_type == FrameType.RECV_PACKET and len(payload) >= KEY_BYTES:
                source = payload[:KEY_BYTES]
                if source != run_source:
                    self._end_run(events, run_source, run)
                    run_source, run = source, []
                run.append(payload[KEY_BYTES:])
                continue
            self._end_run(events, run_source, run)
            run_source, run = b"", []
            frame = self._frame_of(frame_type, payload)
            if frame is not None:
                events.append(Received(frame))
        self._end_run(events, run_source, run)
        return events

    def _end_run(self, events: list[DerpEvent], source: bytes, run: list[bytes]) -> None:
        if run:
            events.append(PacketsReceived(self._source_of(source), tuple(run)))

    def _source_of(self, raw: bytes) -> NodePublicKey:
        key = self._sources.get(raw)
        if key is None:
            if len(self._sources) >= MAX_KNOWN_SOURCES:
                self._sources.clear()
            key = self._sources[raw] = NodePublicKey(raw)
        return key

    def _frame_of(self, frame_type: int, payload: bytes) -> Frame | None:
        """None: skipped."""
        if frame_type not in _READ_WHEN_READY:
            self.skipped_frames += 1
            return None
        try:
            frame = decode_frame(frame_type, payload)
        except WireError:
            self.skipped_frames += 1
            return None
        if isinstance(frame, Restarting):
            return Restarting(min(frame.reconnect_in_s, MAX_RESTART_WAIT_S), min(frame.try_for_s, MAX_RESTART_TRY_S))
        return frame

    @property
    def _has_failed(self) -> bool:
        return self.state is ClientState.FAILED

    def _check_ready(self) -> None:
        if self.state is not ClientState.READY:
            raise LocalProtocolError(f"relay connection is {self.state.value}")

    def _violation(self, reason: str) -> PeerViolation:
        self.state = ClientState.FAILED
        self._head.clear()
        return PeerViolation(reason)


def encode_train(destination: NodePublicKey, train: Train) -> bytes:
    """A train as SendPacket frames, copied once."""
    view, stride, raw = memoryview(train.data), train.stride, destination.raw
    full = FRAME_HEADER.pack(FrameType.SEND_PACKET, KEY_BYTES + stride) + raw
    last_size = len(view) % stride if len(view) else 0
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(view) - last_size, stride):
        pieces += (full, view[start : start + stride])
    if last_size:
        last = FRAME_HEADER.pack(FrameType.SEND_PACKET, KEY_BYTES + last_size) + raw
        pieces += (last, view[len(view) - last_size :])
    return b"".join(pieces)


def metacert_key(common_name: str, serial_number: int) -> NodePublicKey | None:
    """The relay's key as the extra certificate of its TLS chain names it: the licence for a fast start.

    The caller has checked that TLS 1.3 was negotiated; before it, certificates travel in the clear. None for every
    other certificate.
    """
    digits = common_name.removeprefix(METACERT_PREFIX)
    if digits == common_name or not 0 < serial_number < 256:
        return None
    try:
        return NodePublicKey.parse(NodePublicKey.prefix + digits)
    except WireError:
        return None
