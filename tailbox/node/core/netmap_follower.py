"""Keeps an engine at the newest netmap, at a cost that follows what changed.

Most news is of where a peer is (endpoints, home relay) or of things that no engine looks at (online, last seen, host
information). Then routes, rules, names and all other peers stay as they are. Anything else, a key that runs out
included, makes the whole view anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace as change

from tailbox.node.core.engine import Engine, EngineEffects, EngineView
from tailbox.node.core.netmap import TOLERATED_SKEW_S, Netmap
from tailbox.node.core.netmap_view import ViewPreferences, engine_view, reach_of, usable_peers
from tailbox.wire.control.node import Node
from tailbox.wire.keys import NodePublicKey

_MOVING_FIELDS = ("endpoints", "home_derp", "legacy_derp_string", "disco_key")  # a difference moves the peer
_IGNORED_FIELDS = ("online", "last_seen", "hostinfo", "cap", "key_signature")  # it means nothing to the engines
_LIGHT_FIELDS = _MOVING_FIELDS + _IGNORED_FIELDS  # in any other field it makes a new view


class NetmapFollower:
    """One engine's view. `whole_views` counts how often everything was made anew."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._netmap: Netmap | None = None  # what the engine has; None: nothing to compare with
        self._preferences = ViewPreferences()
        self._skew_s = 0.0  # of the netmap when the whole view was made
        self._next_expiry_unix_s: float | None = None  # by the coordinator's clock
        self._carried: Mapping[NodePublicKey, int] = {}  # peers that get traffic: key → ID
        self.filter_problems: tuple[str, ...] = ()
        self.whole_views = 0

    def apply(
        self, netmap: Netmap, preferences: ViewPreferences, *, now_unix_s: float, now: float
    ) -> EngineEffects | None:
        """Bring the engine up to date; None: there was nothing to tell it."""
        moved = self._moved_peers(netmap, preferences, now_unix_s)
        self._netmap = netmap
        if moved is None:
            return self._apply_whole(netmap, preferences, now_unix_s, now)
        carried = [peer for peer in moved if self._carried.get(peer.key) == peer.id]
        if not carried:
            return None
        return self._engine.update_reach(reach_of(carried, always_relay=preferences.always_relay), now=now)

    def invalidate(self) -> None:
        """The engine lost what it was told: a new identity. The next `apply` tells everything."""
        self._netmap = None

    def forget(self, *, now: float) -> EngineEffects:
        """No tailnet any more: no addresses, no peers."""
        self._netmap, self._carried, self.filter_problems = None, {}, ()
        return self._engine.set_view(EngineView(), now=now)

    def _apply_whole(
        self, netmap: Netmap, preferences: ViewPreferences, now_unix_s: float, now: float
    ) -> EngineEffects:
        self.whole_views += 1
        self._preferences, self._skew_s = preferences, netmap.clock_skew_s
        coming = netmap.next_expiry_unix_s(now_unix_s=now_unix_s)
        self._next_expiry_unix_s = None if coming is None else coming + netmap.clock_skew_s
        view = engine_view(netmap, preferences, now_unix_s=now_unix_s)
        self._carried = {peer.key: peer.id for peer in usable_peers(netmap, now_unix_s) if peer.key in view.reach}
        self.filter_problems = view.dataplane.rules.problems
        return self._engine.set_view(view, now=now)

    def _moved_peers(self, new: Netmap, preferences: ViewPreferences, now_unix_s: float) -> list[Node] | None:
        """The peers that differ from before; None: the view as a whole is out of date."""
        old = self._netmap
        if old is None or preferences != self._preferences or len(old.peers) != len(new.peers):
            return None
        expires_at = self._next_expiry_unix_s
        if expires_at is not None and expires_at <= now_unix_s + new.clock_skew_s:
            return None
        if abs(new.clock_skew_s - self._skew_s) > TOLERATED_SKEW_S or old.rules != new.rules or old.dns != new.dns:
            return None
        if not _is_same_to_engines(old.self_node, new.self_node):
            return None
        moved: list[Node] = []
        for node_id, peer in new.peers.items():
            before = old.peers.get(node_id)
            if before is peer:
                continue
            if before is None or not _is_same_to_engines(before, peer):
                return None
            if any(getattr(before, name) != getattr(peer, name) for name in _MOVING_FIELDS):
                moved.append(peer)
        return moved


def _is_same_to_engines(old: Node, new: Node) -> bool:
    if old is new:
        return True
    if (old.disco_key is None) != (new.disco_key is None):
        return False  # without one a peer gets no traffic
    return change(new, **{name: getattr(old, name) for name in _LIGHT_FIELDS}) == old
