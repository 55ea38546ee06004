"""What the policy says for one viewer. Without a policy everybody reaches everything.

The policy engine takes the place of `allow_all`: an AccessRules that compiles the tailnet's policy, and keeps what it
has compiled for as long as policy and subjects stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control.filter import ALLOW_ALL, FilterRule
from tailbox.wire.control.node import CapabilityMap
from tailbox.wire.control.ssh import SSHPolicy


def everybody(peer: TailnetNode) -> bool:
    """Visible to all."""
    return True


@dataclass(frozen=True, slots=True)
class Access:
    """One viewer's share of the policy."""

    packet_filter: tuple[FilterRule, ...] = ALLOW_ALL  # (): nothing inbound
    is_visible: Callable[[TailnetNode], bool] = everybody
    ssh_policy: SSHPolicy | None = None
    capabilities: CapabilityMap = field(default_factory=dict)  # for the self node, besides the baseline
    peer_capabilities: Mapping[int, CapabilityMap] = field(default_factory=dict)  # by peer


AccessRules = Callable[[Tailnet, TailnetNode], Access]

UNLIMITED = Access()


def allow_all(tailnet: Tailnet, viewer: TailnetNode) -> Access:
    """AccessRules of a tailnet without policy."""
    return UNLIMITED
