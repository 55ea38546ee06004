"""The `tailbox` command: each parses, calls the public API and prints. Imports wait until a command needs them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbox import __version__
from tailbox.cli.options import default_state_dir, socket_path
from tailbox.cli.output import fail, reports_errors, run, show, show_json

if TYPE_CHECKING:
    from tailbox.cli.local_client import LocalClient
    from tailbox.cli.up import UpOptions
    from tailbox.node.config import NodeConfig

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A Tailscale-compatible mesh network in pure Python.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Socket = Annotated[Path | None, typer.Option("--socket", help="LocalAPI socket of the node.")]
StateDir = Annotated[Path | None, typer.Option("--state-dir", help="State directory of the node.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AuthKey = Annotated[
    str | None, typer.Option("--auth-key", "--authkey", help="Join with this key; file:PATH reads a file.")
]
ProxyPassword = Annotated[
    str | None, typer.Option(envvar="TAILBOX_SOCKS5_PASSWORD", help="Password that the proxy wants.")
]
OpenProxy = Annotated[
    bool | None, typer.Option("--socks5-public-without-password", help="Open the proxy to everybody: really.")
]
Routes = Annotated[
    str | None, typer.Option(help="Comma-separated prefixes to announce; this node does not forward them yet.")
]


def main() -> None:
    """Entry point. `keys` and `serve` bring their own modules, loaded only when named."""
    os.umask(0o077)  # state, logs and sockets are their owner's alone
    if sys.argv[1:2] == ["keys"]:
        from tailbox.cli.keys import app as keys

        app.add_typer(keys, name="keys")
    elif sys.argv[1:2] in ([], ["-h"], ["--help"]):
        app.command("keys", help="Auth keys and API tokens of a coordinator.")(lambda: None)
    run(app, "tailbox")


@app.command()
@reports_errors
def up(
    context: typer.Context,
    login_server: Annotated[str | None, typer.Option(help="URL of the coordinator.")] = None,
    auth_key: AuthKey = None,
    hostname: Annotated[str | None, typer.Option(help="Name to ask for; default: this machine's.")] = None,
    socks5_server: Annotated[str | None, typer.Option(help="SOCKS5 and HTTP proxy, host:port.")] = None,
    socks5_user: Annotated[str | None, typer.Option(help="User name that the proxy wants.")] = None,
    socks5_password: ProxyPassword = None,
    socks5_public_without_password: OpenProxy = None,
    listen_port: Annotated[int | None, typer.Option("--port", help="UDP port of WireGuard; 0: any free one.")] = None,
    accept_routes: Annotated[bool | None, typer.Option(help="Ask for subnet routes of other nodes.")] = None,
    accept_dns: Annotated[bool | None, typer.Option(help="Resolve names by MagicDNS.")] = None,
    shields_up: Annotated[bool | None, typer.Option(help="Accept no connections.")] = None,
    advertise_tags: Annotated[str | None, typer.Option(help="Comma-separated tags to ask for.")] = None,
    advertise_routes: Routes = None,
    ephemeral: Annotated[bool | None, typer.Option(help="Leave the tailnet when the node stops.")] = None,
    timeout: Annotated[str, typer.Option(help="Give up after this long: 30s, 2m; 0s: never.")] = "0s",
    force_reauth: Annotated[bool, typer.Option(help="Log in anew, with a new key.")] = False,
    daemon: Annotated[bool, typer.Option("--daemon", help="Detach once the node is up.")] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file; its [node] table gives defaults.")] = None,
    socket: Socket = None,
    state_dir: StateDir = None,
    verbose: Annotated[int, typer.Option(help="0: warnings; 1: what happens; 2: everything.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Bring this node up: in the foreground, detached with --daemon, or in the daemon that runs already."""
    from tailbox.cli.node_settings import conceal_auth_key, given_settings, node_config, parse_duration
    from tailbox.cli.up import UpOptions

    flags = given_settings(context.params)
    conceal_auth_key(sys.argv, flags)
    options = UpOptions(timeout_s=parse_duration(timeout), as_json=as_json, force_reauth=force_reauth)
    _bring_up(node_config(flags, config), flags, options, daemon=daemon, verbose=verbose)


def _bring_up(config: NodeConfig, flags: dict[str, Any], options: UpOptions, *, daemon: bool, verbose: int) -> None:
    from tailbox.cli import up as commands
    from tailbox.cli.local_client import LocalClient
    from tailbox.telemetry.logs import set_up_logs

    set_up_logs(verbose)
    if config.socket_path is not None and (client := LocalClient(config.socket_path)).is_running():
        settings = dict(flags)
        if config.auth_key:
            settings["auth_key"] = config.read_auth_key()
        commands.up_in_daemon(client, settings, options)
    elif daemon:
        if config.state_dir is None:
            fail("a detached node needs a state directory")
        commands.up_detached(config, options, sys.argv[2:], config.state_dir / "tailbox.log")
    else:
        raise typer.Exit(commands.up_here(config, options))


@app.command()
@reports_errors
def down(as_json: AsJson = False, socket: Socket = None, state_dir: StateDir = None) -> None:
    """Disconnect from the tailnet; the node stays logged in."""
    from tailbox.cli.up import down as command

    command(_client(socket, state_dir), as_json=as_json)


@app.command()
@reports_errors
def logout(as_json: AsJson = False, socket: Socket = None, state_dir: StateDir = None) -> None:
    """Disconnect and expire the node's key."""
    from tailbox.cli.up import logout as command

    command(_client(socket, state_dir), as_json=as_json)


@app.command()
@reports_errors
def status(
    as_json: AsJson = False,
    active: Annotated[bool, typer.Option("--active", help="Only peers with recent traffic.")] = False,
    show_self: Annotated[bool, typer.Option("--self/--no-self", help="Show this node.")] = True,
    peers: Annotated[bool, typer.Option(help="Show peers.")] = True,
    header: Annotated[bool, typer.Option("--header", help="Column headings.")] = False,
    socket: Socket = None,
    state_dir: StateDir = None,
) -> None:
    """Show this node and its peers."""
    from tailbox.cli.status import print_status

    client = _client(socket, state_dir)
    print_status(client, as_json=as_json, active_only=active, show_self=show_self, show_peers=peers, header=header)


@app.command()
@reports_errors
def ip(
    peer: Annotated[str | None, typer.Argument(help="A peer, by name or address; default: this node.")] = None,
    first: Annotated[bool, typer.Option("-1", help="Only the first address.")] = False,
    v4: Annotated[bool, typer.Option("-4", help="Only IPv4.")] = False,
    v6: Annotated[bool, typer.Option("-6", help="Only IPv6.")] = False,
    asserted: Annotated[str | None, typer.Option("--assert", help="Succeed if this node has the address.")] = None,
    as_json: AsJson = False,
    socket: Socket = None,
    state_dir: StateDir = None,
) -> None:
    """Show tailnet addresses."""
    from tailbox.cli.status import print_addresses

    client = _client(socket, state_dir)
    print_addresses(client, peer, first=first, v4=v4, v6=v6, asserted=asserted, as_json=as_json)


@app.command()
@reports_errors
def ping(
    target: Annotated[str, typer.Argument(help="A peer, by name or address.")],
    count: Annotated[int, typer.Option("--c", "-c", min=0, help="How many pings; 0: without end.")] = 10,
    timeout: Annotated[str, typer.Option(help="How long to wait for each answer.")] = "5s",
    until_direct: Annotated[bool, typer.Option(help="Stop at the first direct answer.")] = True,
    tsmp: Annotated[bool, typer.Option("--tsmp", help="Through the tunnel, without the peer's stack.")] = False,
    icmp: Annotated[bool, typer.Option("--icmp", help="Through the tunnel to the peer's stack.")] = False,
    as_json: AsJson = False,
    socket: Socket = None,
    state_dir: StateDir = None,
) -> None:
    """Ping a peer and tell by which path it answers."""
    from tailbox.cli.node_settings import parse_duration
    from tailbox.cli.ping import ping as command

    command(
        _client(socket, state_dir),
        target,
        kind="TSMP" if tsmp else "ICMP" if icmp else "disco",
        count=count,
        timeout_s=parse_duration(timeout),
        until_direct=until_direct,
        as_json=as_json,
    )


@app.command()
@reports_errors
def netcheck(
    output_format: Annotated[str, typer.Option("--format", help="json or json-line.")] = "",
    as_json: AsJson = False,
    socket: Socket = None,
    state_dir: StateDir = None,
) -> None:
    """Report what kind of network this is: addresses, relays, latencies."""
    from tailbox.cli.netcheck import print_netcheck

    print_netcheck(_client(socket, state_dir), output_format="json" if as_json else output_format)


@app.command()
@reports_errors
def whois(
    address: Annotated[str, typer.Argument(help="A tailnet address, perhaps with a port.")],
    proto: Annotated[str, typer.Option(help="tcp or udp.")] = "",
    as_json: AsJson = False,
    socket: Socket = None,
    state_dir: StateDir = None,
) -> None:
    """Show the machine and user behind a tailnet address."""
    from tailbox.cli.status import print_whois

    print_whois(_client(socket, state_dir), address, proto=proto, as_json=as_json)


@app.command()
@reports_errors
def version(
    daemon: Annotated[bool, typer.Option("--daemon", help="Ask the running node, too.")] = False,
    as_json: AsJson = False,
    socket: Socket = None,
    state_dir: StateDir = None,
) -> None:
    """Show versions."""
    from tailbox.node.host_information import VERSION_TEXT
    from tailbox.wire.control.capability import CURRENT_VERSION

    python = sys.version.split()[0]
    found: dict[str, Any] = {
        "majorMinorPatch": __version__,
        "short": __version__,
        "long": VERSION_TEXT,
        "cap": CURRENT_VERSION,
        "python": python,
    }
    if daemon:
        from tailbox.cli.local_client import call

        answer = call(_client(socket, state_dir), "GET", "status", query={"peers": "false"})
        found["daemonLong"] = answer["Version"]
    if as_json:
        show_json(found)
    elif daemon:
        show(f"Client: {found['long']}\nDaemon: {found['daemonLong']}")
    else:
        show(
            f"{__version__}\n  long version: {found['long']}\n  capability version: {found['cap']}\n  python: {python}"
        )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
@reports_errors
def serve(context: typer.Context) -> None:
    """Run roles in this process: --role=coord, derp, node, or several."""
    from tailbox.cli.serve import app as serve_app

    serve_app(args=list(context.args), prog_name="tailbox serve")


@app.command()
@reports_errors
def sign_in_link(
    server: Annotated[str | None, typer.Option(help="The coordinator's URL; default: as for keys.")] = None,
    token_file: Annotated[str | None, typer.Option(help="File with an API token; default: as for keys.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="State directory of a coordinator on this machine.")] = None,
) -> None:
    """Print a link that signs one browser in to the console, once, within 15 minutes."""
    from tailbox.cli.keys import open_api

    with open_api(server, token_file, state_dir) as client:
        show(client.request("POST", "/sign-in-links")["url"])


@app.command()
@reports_errors
def lab(state_dir: Annotated[Path | None, typer.Option(help="Where the lab keeps its state.")] = None) -> None:
    """Start a whole tailnet on this machine: coordinator, relay and two nodes."""
    from tailbox.cli.lab import run_lab

    raise typer.Exit(run_lab(state_dir or default_state_dir() / "lab"))


@app.command(hidden=True)
@reports_errors
def lab_node(
    name: str,
    state_dir: Annotated[Path, typer.Option()],
    login_server: Annotated[str, typer.Option()],
    socks5_server: Annotated[str, typer.Option()],
) -> None:
    """A node of the lab; ends when its standard input does."""
    from tailbox.cli.lab_node import run_lab_node
    from tailbox.node.config import NodeConfig

    auth_key = os.environ.pop("TAILBOX_AUTH_KEY", "")
    config = NodeConfig(
        login_server=login_server,
        auth_key=auth_key,
        hostname=name,
        state_dir=state_dir,
        socks5_server=socks5_server,
    )
    raise typer.Exit(run_lab_node(config, shares_page=name == "beta"))


@app.command()
@reports_errors
def healthcheck(
    url: Annotated[str, typer.Option(help="A /healthz to ask instead of this machine's roles.")] = "",
    socket: Socket = None,
    state_dir: StateDir = None,
) -> None:
    """Exit 0 if the roles on this machine are well; for container health checks."""
    from tailbox.cli.health import check

    check(url, default_state_dir(), socket_path(socket, state_dir))


def _client(socket: Path | None, state_dir: Path | None) -> LocalClient:
    from tailbox.cli.local_client import LocalClient

    return LocalClient(socket_path(socket, state_dir))
