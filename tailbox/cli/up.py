"""`tailbox up`, `down`, `logout`: bring a node up, here or in the daemon that runs already.

With a daemon on the socket, `up` is upstream's: it changes preferences and waits. Without one, this process becomes the
node, in the foreground, or starts a detached one (`--daemon`). Source: tailscale cmd/tailscale/cli/{up,down,logout}.go.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tailbox.cli.local_client import DaemonUnreachable, LocalApiError, LocalClient, call
from tailbox.cli.output import CommandFailed, fail, say, show

if TYPE_CHECKING:
    from tailbox.node.config import NodeConfig

DAEMON_START_S = 10.0  # until the socket of a detached node answers
POLL_S = 0.05
LOGIN_ERROR = "not logged in, last login error="  # health/warnings.go
KEY_VARIABLES = ("TS_AUTHKEY", "TS_AUTH_KEY", "TAILBOX_AUTH_KEY")
FIXED_SETTINGS = {  # of a running node, with the flags that give them
    "socks5_server": "--socks5-server",
    "socks5_user": "--socks5-user",
    "socks5_password": "--socks5-password",
    "socks5_public_without_password": "--socks5-public-without-password",
    "listen_port": "--port",
    "ephemeral": "--ephemeral",
}
OWN_FLAGS = ("--daemon", "--json", "--timeout")  # of the command that starts a detached node, not of the node


@dataclass(frozen=True, slots=True)
class UpOptions:
    """How `up` behaves, apart from the settings of the node."""

    timeout_s: float = 0.0  # 0: wait for ever
    as_json: bool = False
    force_reauth: bool = False


def up_here(config: NodeConfig, options: UpOptions) -> int:
    """Be the node until a signal comes. Returns the exit code."""
    from tailbox.runtime.loops import run

    return run(_run_node(config, options))


def up_detached(config: NodeConfig, options: UpOptions, arguments: list[str], log: Path) -> None:
    """Start a node in a session of its own and wait until it is up. The auth key travels through a pipe."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    process = _start_detached(node_arguments(arguments), config.read_auth_key(), log)
    assert config.socket_path is not None
    client = LocalClient(config.socket_path)
    _wait_for_socket(client, process, log)
    try:
        wait_until_running(client, options, machine_url=config.login_server)
    except CommandFailed:
        if login_error(client.request("GET", "status", query={"peers": "false"})):
            process.terminate()  # what was refused once is refused for ever
        raise
    say(f"running as process {process.pid}, log in {log}")
    say(f"`tailbox down` leaves the tailnet, `kill {process.pid}` ends the node")


def _start_detached(arguments: list[str], auth_key: str, log: Path) -> subprocess.Popen[bytes]:
    read_end, write_end = os.pipe()
    environment = {name: value for name, value in os.environ.items() if name not in KEY_VARIABLES}
    key = [f"--auth-key=file:/dev/fd/{read_end}"] if auth_key else []
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tailbox", "up", *arguments, *key],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(read_end,),
            start_new_session=True,
        )
    os.close(read_end)
    with os.fdopen(write_end, "w") as pipe:
        pipe.write(auth_key)
    return process


def node_arguments(arguments: list[str]) -> list[str]:
    """What a detached node is told of the command line that starts it."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--timeout":
            next(words, None)
        elif word.partition("=")[0] not in OWN_FLAGS:
            kept.append(word)
    return kept


def up_in_daemon(client: LocalClient, settings: Mapping[str, Any], options: UpOptions) -> None:
    """Change a running node's preferences and wait until it is up. Raises CommandFailed."""
    status = call(client, "GET", "status")
    prefs = call(client, "GET", "prefs")
    changed = changed_prefs(prefs, settings)
    is_running = status["BackendState"] == "Running"
    _refuse_what_is_fixed(prefs, settings)
    needs_login = options.force_reauth or not status.get("HaveNodeKey") or bool(settings.get("auth_key"))
    if is_running and not needs_login:
        call(client, "PATCH", "prefs", body=masked(changed | {"WantRunning": True}))
        Talk(options.as_json, "").tell(status)
        return
    call(client, "POST", "check-prefs", body=prefs | changed)
    body = {"UpdatePrefs": prefs | changed | {"WantRunning": True, "LoggedOut": False}}
    call(client, "POST", "start", body=body | {"AuthKey": settings.get("auth_key", "")})
    if options.force_reauth or not status.get("HaveNodeKey"):
        call(client, "POST", "login-interactive")
    wait_until_running(client, options, machine_url=str(settings.get("login_server") or prefs.get("ControlURL", "")))


def _refuse_what_is_fixed(prefs: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    fixed = [flag for name, flag in FIXED_SETTINGS.items() if settings.get(name) is not None]
    if fixed:
        fail(f"a running node does not change {', '.join(fixed)}: end it and start it anew")
    server = settings.get("login_server")
    if server and prefs.get("ControlURL") and server != prefs["ControlURL"]:
        fail(f"this node belongs to {prefs['ControlURL']}: another coordinator needs another --state-dir")


def down(client: LocalClient, *, as_json: bool = False) -> None:
    """Stop a running node without logging it out."""
    if call(client, "GET", "status")["BackendState"] == "Stopped":
        say("Tailbox was already stopped.")
    else:
        call(client, "PATCH", "prefs", body=masked({"WantRunning": False}))
    if as_json:
        _show_state(client)


def logout(client: LocalClient, *, as_json: bool = False) -> None:
    """Expire the node's key and forget it."""
    call(client, "POST", "logout")
    if as_json:
        _show_state(client)


def _show_state(client: LocalClient) -> None:
    """The state reached, in the shape of `up --json`."""
    state = call(client, "GET", "status", query={"peers": "false"})["BackendState"]
    show(json.dumps({"BackendState": state}, indent="\t"))


def changed_prefs(prefs: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The preferences, by upstream's names, that the given settings mean."""
    names = {
        "login_server": "ControlURL",
        "hostname": "Hostname",
        "accept_routes": "RouteAll",
        "accept_dns": "CorpDNS",
        "shields_up": "ShieldsUp",
        "advertise_tags": "AdvertiseTags",
        "advertise_routes": "AdvertiseRoutes",
    }
    wanted = {names[name]: value for name, value in settings.items() if name in names and value is not None}
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in wanted.items()}
    return {name: value for name, value in listed.items() if prefs.get(name) != value}


def masked(prefs: Mapping[str, Any]) -> dict[str, Any]:
    """MaskedPrefs: every value with the mark that it counts."""
    return dict(prefs) | {f"{name}Set": True for name in prefs}


def wait_until_running(client: LocalClient, options: UpOptions, *, machine_url: str) -> None:
    """Follow the bus until the node runs, telling what it waits for. Raises CommandFailed on errors and time-outs."""
    deadline = time.monotonic() + options.timeout_s if options.timeout_s else None
    talk = Talk(options.as_json, machine_url)
    while True:
        status = call(client, "GET", "status", query={"peers": "false"})
        if talk.tell(status):
            return
        if deadline is not None and time.monotonic() > deadline:
            fail("timeout waiting for Tailbox to enter a Running state; check its log")
        time.sleep(POLL_S)


class Talk:
    """What `up` says while it waits, each thing once."""

    def __init__(self, as_json: bool, machine_url: str) -> None:
        self._as_json = as_json
        self._machine_url = machine_url
        self._told_url = ""
        self._told_approval = False

    def tell(self, status: Mapping[str, Any]) -> bool:
        """Returns whether the node is up. Raises CommandFailed if the coordinator refused."""
        state, url = status["BackendState"], status.get("AuthURL") or ""
        if state == "Running":
            if self._as_json:
                show(json.dumps({"BackendState": state}, indent="\t"))
            elif self._told_url or self._told_approval:
                say("Success.")
            return True
        if refused := login_error(status):
            fail(f"backend error: {refused}")
        if url and url != self._told_url:
            self._told_url = url
            if self._as_json:
                show(json.dumps({"AuthURL": url, "BackendState": state}, indent="\t"))
            else:
                say(f"\nTo authenticate, visit:\n\n\t{url}\n")
        if state == "NeedsMachineAuth" and not self._told_approval:
            self._told_approval = True
            say(f"\nTo approve your machine, visit (as admin):\n\n\t{self._machine_url.rstrip('/')}/admin\n")
        return False


def login_error(status: Mapping[str, Any]) -> str:
    """Why the coordinator refused the last login, "" if it did not. Upstream's status tells it as a health warning."""
    warnings = [text for text in status.get("Health") or [] if text.startswith(LOGIN_ERROR)]
    return str(warnings[0].removeprefix(LOGIN_ERROR)) if warnings else ""


def _wait_for_socket(client: LocalClient, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DAEMON_START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            fail(last[0] if last else f"the node ended with code {process.returncode}; see {log}")
        try:
            client.request("GET", "status", query={"peers": "false"}, timeout_s=1.0)
            return
        except (DaemonUnreachable, LocalApiError):
            time.sleep(POLL_S)
    fail(f"the node does not answer on its socket; see {log}")


async def _run_node(config: NodeConfig, options: UpOptions) -> int:
    from tailbox.node.node import Node
    from tailbox.telemetry.event_logger import logging_events

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    node = Node(config, include_loopback=is_on_this_machine(config.login_server))
    async with logging_events(node.events), node:
        waiting = asyncio.create_task(stop.wait(), name="signal")
        talking = asyncio.create_task(_talk(node, config, options), name="talk")
        try:
            done, _ = await asyncio.wait({waiting, talking}, return_when=asyncio.FIRST_COMPLETED)
            if talking in done:
                talking.result()
                await waiting
        finally:
            waiting.cancel()
            talking.cancel()
    return 0


def is_on_this_machine(login_server: str) -> bool:
    """Whether the coordinator is reached by loopback: then peers may be, too."""
    from tailbox.node.config import is_loopback

    return is_loopback(urlsplit(login_server).hostname or "")


async def _talk(node: Any, config: NodeConfig, options: UpOptions) -> None:
    deadline = time.monotonic() + options.timeout_s if options.timeout_s else None
    talk = Talk(options.as_json, config.login_server)
    while not talk.tell(status := node.status().to_json()):
        if deadline is not None and time.monotonic() > deadline:
            fail("timeout waiting for Tailbox to enter a Running state")
        await asyncio.sleep(POLL_S)
    say(f"{status['Self']['DNSName'].removesuffix('.')} is up: {', '.join(status['TailscaleIPs'])}")
    if config.socks5_server:
        say(f"SOCKS5 and HTTP proxy on {node.proxy_address}")
