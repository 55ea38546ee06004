"""One client's connection as the relay's core sees it, and all connections of one key.

A key may be connected several times: a network change, a cloned machine. The newest connection is the active one,
until another speaks. Two that take turns too often are a clone fighting its original: nobody wins for a while.
Source: tailscale derp/derpserver/derpserver.go; spec: derp.md §9.3.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tailbox.derp.core.login import ClientClaims
from tailbox.derp.core.token_bucket import TokenBucket
from tailbox.wire.addresses import Endpoint
from tailbox.wire.derp import MAX_PACKET_BYTES, FrameType
from tailbox.wire.derp_stream import FrameSplitter
from tailbox.wire.keys import KEY_BYTES, NodePublicKey

NOT_HERE_PER_S, NOT_HERE_BURST = 1.0, 3.0  # derpserver.go: notices of unknown destinations
PINGS_PER_S, PING_BURST = 5.0, 10.0  # ours
MAX_PING_BYTES = 1000  # derpserver.go
MAX_UNKNOWN_FRAME_BYTES = 1024 * 1024  # ours: upstream reads through 4 GiB
MAX_SWAPS, SWAP_WINDOW_S, FIGHT_SILENCE_S = 3, 60.0, 30.0  # ours: more turns than this are a fight

_LIMITS: Mapping[int, int] = {
    FrameType.SEND_PACKET: KEY_BYTES + MAX_PACKET_BYTES,
    FrameType.FORWARD_PACKET: 2 * KEY_BYTES + MAX_PACKET_BYTES,
    FrameType.NOTE_PREFERRED: 1,
    FrameType.WATCH_CONNS: 0,
    FrameType.CLOSE_PEER: KEY_BYTES,
    FrameType.PING: MAX_PING_BYTES,
}


class DuplicatePolicy(Enum):
    """Which of several connections with one key gets the packets."""

    LAST_WRITER = "last writer is active"
    DISABLE_FIGHTERS = "fighters are disabled"


class Connection:
    """The core's record of one logged-in client; also the handle that the shell keeps its session by."""

    __slots__ = (
        "claims", "connected_at", "endpoint", "is_home", "is_ideal", "key", "not_here", "number", "pings", "raw_key",
        "siblings", "sources", "splitter",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        key: NodePublicKey,
        claims: ClientClaims,
        *,
        endpoint: Endpoint | None,
        is_ideal: bool,
        now: float,
    ) -> None:
        self.number = number
        self.key = key
        self.raw_key = key.raw
        self.claims = claims
        self.endpoint = endpoint
        self.is_ideal = is_ideal  # false: the client says that it prefers another node of the region
        self.connected_at = now
        self.is_home = False
        self.splitter = FrameSplitter(_LIMITS, other_limit=MAX_UNKNOWN_FRAME_BYTES, keep_others=False)
        self.siblings: Siblings | None = None  # None: not registered
        self.sources: set[bytes] = set()  # keys that it has had packets from: it hears when they leave
        self.not_here = TokenBucket(NOT_HERE_PER_S, NOT_HERE_BURST, now=now)
        self.pings = TokenBucket(PINGS_PER_S, PING_BURST, now=now)

    def __repr__(self) -> str:
        return f"Connection({self.number}, {self.key.short()})"


class Siblings:
    """All connections of one key; almost always one."""

    __slots__ = ("_latest", "_policy", "_silent_until", "_speakers", "_swaps", "active", "members")

    def __init__(self, policy: DuplicatePolicy) -> None:
        self._policy = policy
        self.members: list[Connection] = []  # in the order they came
        self.active: Connection | None = None  # gets the packets; None: the set is disabled
        self._latest: Connection | None = None  # the newest while it is here, then the last that spoke
        self._speakers: list[Connection] = []  # each once, the last that spoke at the end
        self._swaps: deque[float] = deque(maxlen=MAX_SWAPS + 1)
        self._silent_until: float | None = None

    @property
    def is_disabled(self) -> bool:
        return self.active is None

    def add(self, connection: Connection) -> None:
        """A new connection is active at once, even after a fight."""
        if len(self.members) == 1:
            self._speakers = [self.members[0]]
        self.members.append(connection)
        self.active = self._latest = connection
        self._silent_until = None

    def remove(self, connection: Connection) -> None:
        """Of two, the one that stays is a plain client again; of more, the newest leads, or the last that spoke."""
        self.members.remove(connection)
        if connection in self._speakers:
            self._speakers.remove(connection)
        if self._latest is connection:
            self._latest = self._speakers[-1] if self._speakers else (self.members[-1] if self.members else None)
        if len(self.members) < 2:
            self._speakers.clear()
            self._swaps.clear()
            self._silent_until = None
            self.active = self.members[0] if self.members else None
        elif self.active is not None:
            self.active = self._latest

    def note_activity(self, speaker: Connection, *, now: float) -> bool:
        """A member sent something. Returns whether this began a fight."""
        if len(self.members) < 2 or self._is_silent(now):
            return False
        has_spoken = speaker in self._speakers
        if has_spoken and self._speakers[-1] is speaker and self.active is speaker:
            return False
        fights = self._policy is DuplicatePolicy.DISABLE_FIGHTERS and has_spoken and self._speakers[-1] is not speaker
        if has_spoken:
            self._speakers.remove(speaker)
        self._speakers.append(speaker)
        if self._policy is DuplicatePolicy.LAST_WRITER:
            fights = self._swap_to(speaker, now=now)
        if fights:
            self.active = None
        return fights

    def wake(self, *, now: float) -> Connection | None:
        """The active connection after a fight's silence, even if nobody has spoken since."""
        if self.active is None and self._silent_until is not None and not self._is_silent(now):
            self.active = self._latest
        return self.active

    def _is_silent(self, now: float) -> bool:
        if self._silent_until is None:
            return self.active is None
        if now < self._silent_until:
            return True
        self._silent_until = None
        self._swaps.clear()
        self.active = self._latest
        return False

    def _swap_to(self, speaker: Connection, *, now: float) -> bool:
        self._latest = speaker
        if self.active is speaker:
            return False
        self.active = speaker
        self._swaps.append(now)
        fights = len(self._swaps) > MAX_SWAPS and now - self._swaps[0] <= SWAP_WINDOW_S
        if fights:
            self._silent_until = now + FIGHT_SILENCE_S
        return fights


@dataclass(frozen=True, slots=True)
class Delivery:
    """Packets for one connection, in order: of one source, and all of one kind.

    Each is a frame in two pieces, header with source key, then the packet: `pieces` holds them in turn. Equal headers
    are one object. So a packet is copied twice on its way through, out of the reader's buffer and into the writer's,
    and its frame is never built.
    """

    destination: Connection
    is_disco: bool
    pieces: list[bytes]
    size_bytes: int  # of the packets

    @property
    def packets(self) -> tuple[bytes, ...]:
        """The packets alone, for those who look at them."""
        return tuple(self.pieces[1::2])
