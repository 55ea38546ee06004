"""Making a node's parts from its settings and its state on disk."""

from __future__ import annotations

from dataclasses import replace

from tailbox.clock import Clock
from tailbox.crypto.x25519 import disco_public, generate, node_public
from tailbox.errors import ConfigError
from tailbox.node.config import NodeConfig
from tailbox.node.control_client import ControlClient
from tailbox.node.core.control_session import ControlSession, SessionSettings
from tailbox.node.core.engine import Engine, Transmit
from tailbox.node.core.tap import PacketTap
from tailbox.node.host_information import host_name
from tailbox.node.state_file import NodeState, logged_out
from tailbox.randomness import RandomSource
from tailbox.runtime.network import Network
from tailbox.runtime.tls import client_context
from tailbox.wire.control.capability import CURRENT_VERSION
from tailbox.wire.keys import DiscoPrivateKey, MachinePrivateKey, NodePrivateKey


def state_at_start(loaded: NodeState | None, config: NodeConfig, random: RandomSource) -> NodeState:
    """What was remembered, adapted to the settings; a new machine if there was nothing. Raises ConfigError."""
    state = loaded or NodeState(machine_key=generate(MachinePrivateKey, random))
    server = config.login_server or state.login_server
    if not server:
        raise ConfigError("login_server", "", "which coordinator to join is not known")
    if state.login_server not in ("", server):
        state = logged_out(state)  # another tailnet: the old login means nothing there
    wanted = host_name(config, state.hostname)
    return replace(state, login_server=server, hostname=wanted, want_running=True, logged_out=False)


def make_session(
    config: NodeConfig, state: NodeState, disco_key: DiscoPrivateKey, random: RandomSource
) -> ControlSession:
    """Raises ConfigError for an auth key that cannot be read."""
    settings = SessionSettings(state.login_server, config.read_auth_key(), config.is_ephemeral)
    return ControlSession(
        settings,
        node_key=state.node_key,
        old_node_key=state.old_node_key,
        disco_key=disco_public(disco_key),
        random=random,
    )


def make_client(config: NodeConfig, state: NodeState, network: Network, random: RandomSource) -> ControlClient:
    """Raises ConfigError for authorities that cannot be read."""
    authorities = config.tls_ca_file
    return ControlClient(
        state.login_server,
        state.machine_key,
        version=CURRENT_VERSION,
        network=network,
        random=random,
        tls=client_context(authorities=authorities) if authorities else None,
    )


def make_engine(
    config: NodeConfig,
    private_key: NodePrivateKey,
    disco_key: DiscoPrivateKey,
    *,
    transmit: Transmit,
    clock: Clock,
    random: RandomSource,
    tap: PacketTap | None,
) -> Engine:
    """An engine that gives flows to our own addresses to the forwarder."""
    engine = Engine(
        private_key,
        disco_key,
        node_public(private_key),
        transmit=transmit,
        random=random,
        unix_offset_s=clock.unix_time() - clock.monotonic(),
        mtu=config.mtu,
        tap=tap,
    )
    engine.stack.set_forwarding(own_addresses=True, other_addresses=False)
    return engine
