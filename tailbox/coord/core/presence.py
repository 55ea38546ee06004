"""Presence: a node is online while it has an open map stream, and for a short grace after the last one.

Streams are counted, since a new one may start before the old one ends. Source: control reference §9.1.
"""

from __future__ import annotations

from functools import reduce

import msgspec

from tailbox.coord.core.change import NO_CHANGE, Change, Outcome
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import Tailnet

OFFLINE_GRACE_S = 10.0  # headscale poll.go: a reconnect within it is nobody's business


def open_session(tailnet: Tailnet, now_unix_s: float, *, node_id: int) -> Outcome[None]:
    """A map stream has begun. Raises NotFound."""
    node = tailnet.node(node_id)
    node = msgspec.structs.replace(node, sessions=node.sessions + 1, is_online=True, last_seen_unix_s=now_unix_s)
    return Outcome(tailnet.with_node(node), presence_change(node), None)


def close_session(tailnet: Tailnet, now_unix_s: float, *, node_id: int) -> Outcome[None]:
    """A map stream has ended. A node deleted meanwhile needs nothing."""
    node = tailnet.nodes.get(node_id)
    if node is None or node.sessions == 0:
        return Outcome(tailnet, NO_CHANGE, None)
    node = msgspec.structs.replace(node, sessions=node.sessions - 1, last_seen_unix_s=now_unix_s)
    return Outcome(tailnet.with_node(node), presence_change(node), None)


def settle_presence(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
    """Take nodes offline whose last stream ended longer ago than the grace."""
    gone = [
        msgspec.structs.replace(node, is_online=False)
        for node in tailnet.nodes.values()
        if node.is_online and node.sessions == 0 and _grace_ends(node) <= now_unix_s
    ]
    return Outcome(reduce(Tailnet.with_node, gone, tailnet), presence_change(*gone), None)


def everyone_offline(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
    """After a start no stream is open, whatever the store says. Ephemeral nodes get their whole time to come back."""
    gone = [
        msgspec.structs.replace(node, is_online=False, sessions=0, last_seen_unix_s=now_unix_s)
        for node in tailnet.nodes.values()
        if node.is_online or node.sessions
    ]
    return Outcome(reduce(Tailnet.with_node, gone, tailnet), presence_change(*gone), None)


def next_presence_unix_s(tailnet: Tailnet) -> float | None:
    """When settle_presence has something to do."""
    return min(
        (_grace_ends(node) for node in tailnet.nodes.values() if node.is_online and node.sessions == 0), default=None
    )


def presence_change(*nodes: TailnetNode) -> Change:
    """A coarse entry: no event for the audit log."""
    return Change(nodes=frozenset(node.id for node in nodes)) if nodes else NO_CHANGE


def _grace_ends(node: TailnetNode) -> float:
    return (node.last_seen_unix_s or 0.0) + OFFLINE_GRACE_S
