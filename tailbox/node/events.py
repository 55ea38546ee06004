"""What a node tells its event log, besides what engines, underlay and control session tell."""

from __future__ import annotations

from dataclasses import dataclass

from tailbox.node.core.status import BackendState


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The node is up, down, waiting for somebody…"""

    state: BackendState


@dataclass(frozen=True, slots=True)
class NetmapChanged:
    """Peers, names, rules or ourselves changed."""

    peers: int


@dataclass(frozen=True, slots=True)
class PrefsChanged:
    """Somebody changed what the node is told."""


@dataclass(frozen=True, slots=True)
class HomeRelayChanged:
    """The relay region where peers find us."""

    region_id: int


@dataclass(frozen=True, slots=True)
class MapStreamEnded:
    """The coordinator is away; the last netmap stays in force."""

    why: str
