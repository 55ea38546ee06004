"""What happens because time passes: keys end, ephemeral nodes go, logins are forgotten, nodes fall silent."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tailbox.coord.core.change import Change, Outcome
from tailbox.coord.core.devices import node_event, removal
from tailbox.coord.core.pending_logins import drop_old_logins
from tailbox.coord.core.presence import next_presence_unix_s, settle_presence
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import Tailnet


def keep_house(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
    """Everything that is due. Harmless early, late or twice."""
    change = Change()
    for step in (settle_presence, announce_expiries, remove_ephemeral, drop_old_logins):
        outcome = step(tailnet, now_unix_s)
        tailnet, change = outcome.tailnet, change.merge(outcome.change)
    return Outcome(tailnet, change, None)


def next_due_unix_s(tailnet: Tailnet) -> float | None:
    """When `keep_house` has something to do; None for never."""
    return min(_due_times(tailnet), default=None)


def announce_expiries(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
    """Mark keys that have ended since the last look, so that everybody gets told."""
    change = Change()
    for node in tailnet.nodes.values():
        if not node.is_expiry_announced and node.is_expired(now_unix_s):
            tailnet = tailnet.with_node(msgspec.structs.replace(node, is_expiry_announced=True))
            event = node_event(node, "EXPIRED", "KEY_EXPIRY_TIME")
            change = change.merge(Change(nodes=frozenset({node.id}), events=(event,)))
    return Outcome(tailnet, change, None)


def remove_ephemeral(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
    """Delete ephemeral nodes that have been away for the time-out, counted from registration or the last stream."""
    change = Change()
    for node in tailnet.nodes.values():
        due = _removal_unix_s(tailnet, node)
        if due is not None and due <= now_unix_s:
            outcome = removal(tailnet, node, "DELETE")
            tailnet, change = outcome.tailnet, change.merge(outcome.change)
    return Outcome(tailnet, change, None)


def _removal_unix_s(tailnet: Tailnet, node: TailnetNode) -> float | None:
    if not node.is_ephemeral or node.sessions or node.is_online:
        return None
    return max(node.last_seen_unix_s or 0.0, node.created_unix_s) + tailnet.settings.ephemeral_timeout_s


def _due_times(tailnet: Tailnet) -> Iterator[float]:
    presence = next_presence_unix_s(tailnet)
    if presence is not None:
        yield presence
    for node in tailnet.nodes.values():
        expiry = node.effective_expiry_unix_s
        if expiry is not None and not node.is_expiry_announced:
            yield expiry
        due = _removal_unix_s(tailnet, node)
        if due is not None:
            yield due
    for login in tailnet.pending_logins.values():
        yield login.expires_unix_s
