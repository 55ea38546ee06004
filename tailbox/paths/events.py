"""What the path finder tells: datagrams to send, and what happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tailbox.paths.path import Path
from tailbox.wire.keys import NodePublicKey


class PathChangeReason(StrEnum):
    """Why traffic to a peer takes another way from now on."""

    PEER_ADDED = "peer added"
    HOME_RELAY_CHANGED = "home relay changed"
    PONG = "pong over a better path"
    HEARD = "authenticated traffic from there"
    TRUST_EXPIRED = "no pong in time"
    PING_TIMED_OUT = "ping timed out"
    ENDPOINT_FAILED = "sending failed"
    IDLE = "no traffic, path not kept alive"
    REBIND = "own network changed"
    DISCO_KEY_CHANGED = "peer restarted"
    RELAY_GONE = "peer left the relay"


class DiscoDropReason(StrEnum):
    """Why a disco message, or a part of one, was ignored; a counter each, since strangers choose how many come."""

    MALFORMED = "malformed"
    UNKNOWN_SENDER = "unknown sender"
    NOT_AUTHENTIC = "not authentic"
    WRONG_TRANSPORT = "wrong transport"
    UNKNOWN_TYPE = "unknown type"
    UNKNOWN_PONG = "pong without ping"
    RATE_LIMITED = "rate limited"
    TOO_MANY_ENDPOINTS = "too many endpoints"
    UNUSABLE_ENDPOINT = "unusable endpoint"


class PingPurpose(StrEnum):
    """Why a ping was sent."""

    DISCOVERY = "discovery"
    HEARTBEAT = "heartbeat"
    COMMAND = "command"  # somebody asked, with `tailbox ping`


@dataclass(frozen=True, slots=True)
class PathChanged:
    """`path_to(peer)` has a new answer. None: there is no way to the peer."""

    peer: NodePublicKey
    path: Path | None
    why: PathChangeReason


@dataclass(frozen=True, slots=True)
class PongReceived:
    """A peer answered a ping sent over `path`."""

    peer: NodePublicKey
    path: Path
    latency_s: float
    purpose: PingPurpose = PingPurpose.DISCOVERY


@dataclass(frozen=True, slots=True)
class PingTimedOut:
    """A ping that somebody asked for got no answer."""

    peer: NodePublicKey
    path: Path


@dataclass(frozen=True, slots=True)
class FreshEndpointsWanted:
    """Peers are about to be told our endpoints, and those known are old: run a STUN round, then `set_own_endpoints`."""


PathEvent = PathChanged | PongReceived | PingTimedOut | FreshEndpointsWanted


@dataclass(frozen=True, slots=True)
class PathEffects:
    """What one input of the path finder leads to."""

    to_network: tuple[tuple[Path, NodePublicKey, bytes], ...] = ()  # disco datagrams
    events: tuple[PathEvent, ...] = ()


NOTHING = PathEffects()
