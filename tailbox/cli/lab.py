"""`tailbox lab`: a whole tailnet on this machine, with a live table of what it does.

This process is coordinator and relay; each node is a process of its own, started by this one and gone with it. State is
kept, so that the next start brings the same nodes and addresses back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailbox.cli.lab_table import LabTable, NodeRow
from tailbox.cli.local_client import DaemonUnreachable, LocalApiError, LocalClient
from tailbox.cli.options import SOCKET_NAME
from tailbox.cli.output import fail, say, show
from tailbox.node.config import STATE_FILE_NAME
from tailbox.server import ServerConfig, Tailnet, free_port, make_state_directory, start_server

NODES = ("alpha", "beta")
FIRST_HTTP_PORT = 8080
FIRST_TLS_PORT = 8443
FIRST_STUN_PORT = 3478
FIRST_PROXY_PORT = 1055
REFRESH_S = 1.0
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 1.5  # the whole lab ends within two seconds


@dataclass(slots=True)
class LabNode:
    """One node process and what it said last."""

    name: str
    directory: Path
    proxy_port: int
    process: asyncio.subprocess.Process | None = None
    status: dict[str, Any] = field(default_factory=dict)
    round_trip_s: float | None = None
    trouble: str = "starting"

    @property
    def client(self) -> LocalClient:
        return LocalClient(self.directory / SOCKET_NAME, timeout_s=5.0)


def run_lab(state_dir: Path) -> int:
    """Run until SIGINT or SIGTERM. Returns the exit code. Raises CommandFailed if the lab cannot start."""
    make_state_directory(state_dir)
    if any(LocalClient(state_dir / name / SOCKET_NAME).is_running() for name in NODES):
        fail(f"the lab runs already; another one beside it: tailbox lab --state-dir {state_dir}-2")
    try:
        return asyncio.run(_lab(state_dir))
    except KeyboardInterrupt:
        return 0


async def _lab(state_dir: Path) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        tailnet = await start_server(_server_config(state_dir))
        stack.push_async_callback(tailnet.stop)
        nodes: list[LabNode] = []
        for name in NODES:  # one after the other: the first gets the first address
            nodes.append(await stack.enter_async_context(_node(name, state_dir, tailnet)))
            stack.callback(_tell_to_end, nodes)  # all at once, before anybody is waited for
            await _until_ready(nodes, stop)
        if not stop.is_set():
            _introduce(tailnet, nodes)
            await _watch(nodes, tailnet, stop)
    return 0


def _server_config(state_dir: Path) -> ServerConfig:
    http = _port(FIRST_HTTP_PORT)
    return ServerConfig(
        roles=("coord", "derp"),
        listen=f"127.0.0.1:{http}",
        tls_listen=f"127.0.0.1:{_port(FIRST_TLS_PORT)}",
        url=f"http://127.0.0.1:{http}",
        state_dir=state_dir,
        stun_port=_port(FIRST_STUN_PORT, kind=socket.SOCK_DGRAM),
        tailnet_name="lab",
        base_domain="lab.internal",
    )


def _port(first: int, *, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    port = free_port(first, kind=kind)
    if port != first:
        say(f"port {first} is taken, using {port}")
    return port


@asynccontextmanager
async def _node(name: str, state_dir: Path, tailnet: Tailnet) -> AsyncIterator[LabNode]:
    """A node process that ends with the block, or when this process dies: its standard input closes."""
    directory = state_dir / name
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    node = LabNode(name, directory, _port(FIRST_PROXY_PORT + NODES.index(name)))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TS_", "TAILBOX_"))}
    if not (directory / STATE_FILE_NAME).exists():  # whoever has joined before needs no key
        environment["TAILBOX_AUTH_KEY"] = await tailnet.create_auth_key(description=f"lab {name}")
    log = (directory / "node.log").open("ab")
    try:
        node.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tailbox", "lab-node", name),
            *("--state-dir", str(directory), "--login-server", tailnet.url),
            *("--socks5-server", f"127.0.0.1:{node.proxy_port}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; we tell the nodes
        )
    finally:
        log.close()
    try:
        yield node
    finally:
        await _end(node.process)


def _tell_to_end(nodes: list[LabNode]) -> None:
    for node in nodes:
        if node.process is not None and node.process.returncode is None:
            node.process.terminate()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _until_ready(nodes: list[LabNode], stop: asyncio.Event) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not stop.is_set():
        await asyncio.gather(*(_look(node) for node in nodes))
        if all(_is_ready(node, nodes) for node in nodes):
            return
        for node in nodes:
            assert node.process is not None
            if node.process.returncode is not None:
                fail(f"{node.name} ended with code {node.process.returncode}; see {node.directory / 'node.log'}")
        if time.monotonic() > deadline:
            what = ", ".join(f"{node.name}: {node.trouble or node.status.get('BackendState')}" for node in nodes)
            fail(f"the nodes are not up after {START_TIMEOUT_S:.0f} s ({what})")
        await asyncio.sleep(0.1)


def _is_ready(node: LabNode, nodes: list[LabNode]) -> bool:
    """Up, and the other one known if it has started: the command to paste works at once."""
    other = _other(node, nodes)
    return node.status.get("BackendState") == "Running" and (other is node or bool(_peer_status(node, other)))


def _introduce(tailnet: Tailnet, nodes: list[LabNode]) -> None:
    """What to do now, on lines of their own, above the table."""
    show(f"Console (signs in once): {tailnet.sign_in_link()}")
    show(f"Try: curl --proxy socks5h://127.0.0.1:{nodes[0].proxy_port} http://{NODES[-1]}/")
    show(f"Ask a node: tailbox status --state-dir {nodes[0].directory}")
    show("Ctrl-C stops everything; the next start brings the same nodes and addresses back.")
    sys.stdout.flush()


async def _watch(nodes: list[LabNode], tailnet: Tailnet, stop: asyncio.Event) -> None:
    with LabTable() as table:
        while not stop.is_set():
            await asyncio.gather(*(_look(node) for node in nodes))
            await asyncio.gather(*(_measure(node, nodes) for node in nodes))
            table.update([_row(node, nodes) for node in nodes])
            try:
                await asyncio.wait_for(stop.wait(), REFRESH_S)
            except TimeoutError:
                continue


async def _look(node: LabNode) -> None:
    try:
        node.status = await asyncio.to_thread(node.client.request, "GET", "status")
        node.trouble = ""
    except (DaemonUnreachable, LocalApiError) as error:
        node.trouble = str(error)


async def _measure(node: LabNode, nodes: list[LabNode]) -> None:
    """Ping the next node through the tailnet: that is the round trip of the table."""
    other = _other(node, nodes)
    addresses = other.status.get("TailscaleIPs") or []
    if node.trouble or not addresses:
        node.round_trip_s = None
        return
    try:
        result = await asyncio.to_thread(
            lambda: node.client.request("POST", "ping", query={"ip": addresses[0], "type": "disco"}, timeout_s=2.0)
        )
        node.round_trip_s = None if result.get("Err") else result["LatencySeconds"]
    except (DaemonUnreachable, LocalApiError):
        node.round_trip_s = None


def _row(node: LabNode, nodes: list[LabNode]) -> NodeRow:
    peer = _peer_status(node, _other(node, nodes))
    assert node.process is not None
    gone = node.process.returncode is not None
    state = "stopped" if gone else node.trouble or node.status.get("BackendState", "")
    return NodeRow(
        name=node.name,
        addresses=tuple(node.status.get("TailscaleIPs") or ()),
        state=state,
        peer=_other(node, nodes).name,
        path=_path(peer),
        round_trip_s=node.round_trip_s,
        sent_bytes=peer.get("TxBytes", 0),
        received_bytes=peer.get("RxBytes", 0),
    )


def _path(peer: dict[str, Any]) -> str:
    if peer.get("CurAddr"):
        return f"direct {peer['CurAddr']}"
    return f"relayed by {peer['Relay']}" if peer.get("Relay") else "–"


def _other(node: LabNode, nodes: list[LabNode]) -> LabNode:
    return nodes[(nodes.index(node) + 1) % len(nodes)]


def _peer_status(node: LabNode, other: LabNode) -> dict[str, Any]:
    wanted = (other.status.get("Self") or {}).get("PublicKey")
    found = (node.status.get("Peer") or {}).get(wanted)
    return found if isinstance(found, dict) else {}
