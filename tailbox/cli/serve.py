"""`tailbox serve` and `server.py`: roles in one process, until a signal comes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from tailbox.cli.options import SOCKET_NAME, default_state_dir
from tailbox.cli.output import reports_errors, say
from tailbox.errors import ConfigError
from tailbox.runtime.settings import read_toml, resolve
from tailbox.server import ServerConfig, Tailnet, start_server
from tailbox.telemetry.event_logger import logging_events

if TYPE_CHECKING:
    from tailbox.node.config import NodeConfig
    from tailbox.node.node import Node

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
@reports_errors
def serve(
    role: Annotated[str | None, typer.Option(help="Comma-separated: coord, derp, node.")] = None,
    listen: Annotated[str | None, typer.Option(help="Address of REST, console, control channel and relay.")] = None,
    tls_listen: Annotated[
        str | None, typer.Option(help="The same with TLS, which stock clients want of a relay.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM chain; default: a development certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key of --tls-cert.")] = None,
    url: Annotated[str | None, typer.Option(help="The coordinator's URL as nodes and browsers dial it.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where every role keeps its state.")] = None,
    tailnet_name: Annotated[str | None, typer.Option(help="Shown to users.")] = None,
    base_domain: Annotated[str | None, typer.Option(help="Domain of MagicDNS names.")] = None,
    device_approval: Annotated[
        bool | None,
        typer.Option(help="Nodes wait for an administrator; decides at the first start, then the console does."),
    ] = None,
    derp_host: Annotated[str | None, typer.Option(help="The relay's host as nodes dial it.")] = None,
    derp_port: Annotated[int | None, typer.Option(help="The relay's TLS port as nodes dial it.")] = None,
    derp_map_file: Annotated[Path | None, typer.Option(help="Further regions, JSON as tailcfg.DERPMap.")] = None,
    stun_port: Annotated[int | None, typer.Option(help="UDP port of STUN; -1: none.")] = None,
    verify_client_url: Annotated[str | None, typer.Option(help="A relay alone asks here who may connect.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with tables [server] and [node].")] = None,
    verbose: Annotated[int, typer.Option(help="0: warnings; 1: what happens; 2: everything.")] = 1,
) -> None:
    """Run roles in this process. Settings: --config file, then TAILBOX_* (a node: TS_*, too), then flags."""
    from tailbox.telemetry.logs import set_up_logs

    given = {
        name: value for name, value in locals().items() if name not in ("role", "config", "verbose", "set_up_logs")
    }
    given["roles"] = role
    set_up_logs(verbose)
    tables = read_toml(config) if config else {}
    environment = dict(os.environ)
    if environment.get("TAILBOX_ROLE"):
        environment.setdefault("TAILBOX_ROLES", environment["TAILBOX_ROLE"])
    table = {"state_dir": default_state_dir()} | dict(tables.get("server", {}))
    server = resolve(ServerConfig, table=table, environment=environment, flags=given)
    node = _node_config(server, tables.get("node", {}), environment) if "node" in server.roles else None
    raise typer.Exit(asyncio.run(_serve(server, node)))


def _node_config(server: ServerConfig, table: dict[str, Any], environment: dict[str, str]) -> NodeConfig:
    """The node of this process: TS_* and TAILBOX_*, its state beside the others'."""
    from tailbox.cli.node_settings import resolve_node
    from tailbox.server import public_url

    defaults: dict[str, Any] = {"state_dir": server.state_dir / "node", "socks5_server": "127.0.0.1:1055"}
    if len(server.roles) == 1:
        defaults["socket"] = server.state_dir / "node" / SOCKET_NAME
        del defaults["socks5_server"]
    if "coord" in server.roles:
        defaults["login_server"] = public_url(server)
    return resolve_node(defaults | table, environment, flags={})


async def _serve(server: ServerConfig, node: NodeConfig | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        tailnet = None
        if set(server.roles) & {"coord", "derp"}:
            tailnet = await start_server(server)
            stack.push_async_callback(tailnet.stop)
            await stack.enter_async_context(logging_events(tailnet.events))
            _announce(server, tailnet)
        if node is not None:
            member = await _node_beside(node, tailnet)
            await stack.enter_async_context(logging_events(member.events))
            await stack.enter_async_context(member)
        await stop.wait()
    return 0


def _announce(server: ServerConfig, tailnet: Tailnet) -> None:
    for bound in tailnet.addresses:
        say(f"{', '.join(role for role in server.roles if role != 'node')} on {bound.url}")
    if tailnet.coord is not None:
        if not server.url and urlsplit(tailnet.url).hostname == socket.gethostname():
            say(f"nodes are told {tailnet.url}: give --url if others cannot resolve that name")
        say(f"coordinator: {tailnet.url}")
        say(f"console (signs in once, within 15 minutes): {tailnet.sign_in_link()}")
        say(f"make an auth key with: tailbox keys create --state-dir {server.state_dir}")


async def _node_beside(config: NodeConfig, tailnet: Tailnet | None) -> Node:
    """A node that joins with a key of this very process's coordinator, where there is one."""
    from dataclasses import replace

    from tailbox.node.config import is_loopback
    from tailbox.node.node import Node
    from tailbox.runtime.service import Address

    if tailnet is not None and tailnet.coord is not None:
        config = replace(config, auth_key=config.auth_key or await tailnet.create_auth_key(description="own node"))
        if config.login_server != tailnet.url and not config.login_server:
            config = replace(config, login_server=tailnet.url)
    if not config.login_server and config.state_dir is None:
        raise ConfigError("login_server", "", "a node needs to know its coordinator")
    listening = tailnet.addresses[0].address if tailnet is not None else None
    return Node(config, include_loopback=isinstance(listening, Address) and is_loopback(listening.host))
