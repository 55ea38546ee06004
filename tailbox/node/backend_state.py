"""Which of upstream's states a node is in, from what its parts know. Source: tailscale ipn/ipnlocal/local.go."""

from __future__ import annotations

from tailbox.node.core.control_session import ControlSession, Phase
from tailbox.node.core.netmap import Netmap
from tailbox.node.core.status import BackendState


def derive_state(
    session: ControlSession, netmap: Netmap | None, *, is_reachable: bool, now_unix_s: float
) -> BackendState:
    """`is_reachable`: peers can reach us by our home relay, or there is no hope of one."""
    phase = session.phase
    if phase is Phase.STOPPED:
        return BackendState.STOPPED
    if phase is Phase.LOGGED_OUT:
        return BackendState.NEEDS_LOGIN
    if netmap is None:
        waits = phase is Phase.AWAITING_USER or session.last_error
        return BackendState.NEEDS_LOGIN if waits else BackendState.STARTING
    if netmap.is_expired(netmap.self_node, now_unix_s=now_unix_s):
        return BackendState.NEEDS_LOGIN
    if not netmap.self_node.machine_authorized:
        return BackendState.NEEDS_MACHINE_AUTH
    return BackendState.RUNNING if is_reachable else BackendState.STARTING
