"""The way to one peer: relayed, direct and trusted, or direct and doubted.

| state | first choice | also sent to |
|---|---|---|
| no direct path known | relay | |
| trusted: a pong came within 6.5 s | direct | |
| doubted: trust is over | relay | direct |

Without a relay the direct path stays first; without either, traffic goes where authenticated traffic last came from.
This object keeps the state and says what is due; it sends nothing. Source: paths.md §6; tailscale endpoint.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailbox.paths.candidates import Candidates
from tailbox.paths.path import Direct, Path, PeerReach, Relayed
from tailbox.paths.ranking import MeasuredPath, is_better
from tailbox.paths.token_bucket import TokenBucket
from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import NodePublicKey

SESSION_ACTIVE_S = 45.0  # endpoint.go sessionActiveTimeout: heartbeats go on this long after the last traffic
HEARTBEAT_S = 3.0  # endpoint.go heartbeatInterval
TRUST_S = 6.5  # endpoint.go trustUDPAddrDuration: two heartbeats and a bit
GOOD_ENOUGH_S = 0.005  # endpoint.go goodEnoughLatency: nothing better is searched for
UPGRADE_EVERY_S = 60.0  # endpoint.go upgradeUDPDirectInterval
PONGS_PER_S, PONG_BURST = 32.0, 128  # ours: answers to one peer; a full round of its pings fits many times
CALLS_PER_S, CALL_BURST = 1.0, 5  # ours: call-me-maybes heeded of one peer; upstream sends one in 5 s


@dataclass(frozen=True, slots=True)
class PeerPathSnapshot:
    """How a peer is reached, for status pages."""

    path: Path | None
    direct: Endpoint | None  # best direct address, trusted or not
    latency_s: float | None  # of the last pong over it
    active_at: float | None  # monotonic: last traffic towards the peer
    candidates: tuple[Endpoint, ...]


class PeerPath:
    """What is known of one peer's paths."""

    def __init__(self, key: NodePublicKey, reach: PeerReach) -> None:
        self.key = key
        self.reach = reach
        self.candidates = Candidates()
        self.candidates.set_from_network_map(reach.endpoints)
        self.best: MeasuredPath | None = None
        self.trusted_until = float("-inf")
        self.active_at = float("-inf")  # last traffic towards the peer
        self.heartbeat_at: float | None = None  # None: no heartbeats, the session is idle
        self.searched_at = float("-inf")  # last full round of pings
        self.heard_region = 0  # the relay through which the peer was last heard
        self.heard_direct: Endpoint | None = None  # where authenticated traffic last came from
        self.last_heard: tuple[Path | None, float] = (None, float("-inf"))
        self.called_at = float("-inf")  # last call-me-maybe sent, or kept for fresh endpoints
        self.scheduled_at: float | None = None  # the owner's live heap entry
        self.pongs_allowed = TokenBucket(rate_per_s=PONGS_PER_S, burst=PONG_BURST)
        self.calls_allowed = TokenBucket(rate_per_s=CALLS_PER_S, burst=CALL_BURST)
        self.is_doubt_known = True  # the owner has acted on the end of trust

    @property
    def speaks_disco(self) -> bool:
        return not self.reach.disco_key.is_zero

    def is_trusted(self, *, now: float) -> bool:
        return self.best is not None and now < self.trusted_until

    def is_active(self, *, now: float) -> bool:
        return now - self.active_at < SESSION_ACTIVE_S

    def relay(self) -> Relayed | None:
        """The peer's home region, else the one it was last heard through."""
        region = self.reach.home_region or self.heard_region
        return Relayed(region) if region else None

    def choose(self, *, now: float) -> tuple[Path, ...]:
        """Where packets go, first choice first. See the module's table."""
        relay = self.relay()
        if self.best is not None:
            direct = Direct(self.best.endpoint)
            if relay is None or self.is_trusted(now=now):
                return (direct,)
            return (relay, direct)
        if relay is not None:
            return (relay,)
        if self.heard_direct is not None:
            return (Direct(self.heard_direct),)
        if not self.speaks_disco and self.reach.endpoints:
            return (Direct(self.reach.endpoints[0]),)
        return ()

    def take_pong(self, measured: MeasuredPath, *, now: float) -> bool:
        """A ping to this address was answered. Returns whether it is the best path now (newly or still)."""
        candidate = self.candidates.get(measured.endpoint)
        if candidate is None:
            return False
        candidate.answered = measured
        is_best = self.best is not None and self.best.endpoint == measured.endpoint
        if not is_best and self.is_trusted(now=now) and not is_better(measured, self.best):
            return False
        self.best = measured
        self.trusted_until = now + TRUST_S
        self.is_doubt_known = False
        return True

    def drop_best(self) -> None:
        """There is no direct path any more."""
        self.best = None
        self.trusted_until = float("-inf")
        self.is_doubt_known = True

    def expire_candidates(self, *, now: float) -> None:
        """Drop addresses that nobody names; a path that still answers is its own witness."""
        keep = self.best.endpoint if self.best is not None and self.is_trusted(now=now) else None
        self.candidates.expire(now=now, keep=keep)
        if self.best is not None and self.best.endpoint not in self.candidates:
            self.drop_best()

    def wants_full_round(self, *, now: float) -> bool:
        """Whether a heartbeat should search, or only keep the best path alive."""
        if self.best is None or not self.is_trusted(now=now) or self.searched_at == float("-inf"):
            return True
        return self.best.latency_s > GOOD_ENOUGH_S and now - self.searched_at >= UPGRADE_EVERY_S

    def next_due(self) -> float | None:
        """When a heartbeat or the end of trust is to be attended to."""
        trust_ends_at = None if self.is_doubt_known else self.trusted_until
        if self.heartbeat_at is None or trust_ends_at is None:
            return self.heartbeat_at if trust_ends_at is None else trust_ends_at
        return min(self.heartbeat_at, trust_ends_at)

    def snapshot(self, path: Path | None) -> PeerPathSnapshot:
        return PeerPathSnapshot(
            path=path,
            direct=self.best.endpoint if self.best else None,
            latency_s=self.best.latency_s if self.best else None,
            active_at=self.active_at if self.active_at != float("-inf") else None,
            candidates=self.candidates.endpoints,
        )
