"""Tailbox as users run it: processes of their own, with logs, signals and /proc."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tailbox.cli.local_client import DaemonUnreachable, LocalApiError, LocalClient
from tests.system.privileges import launcher

START_TIMEOUT_S = 30.0
SOCKET_NAME = "tailboxd.sock"
LOOPBACK = "127.0.0.1"


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def at_this_load(seconds: float) -> float:
    """A limit for an idle machine, stretched as far as processes have to wait for their turn on this one."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = START_TIMEOUT_S, step_s: float = 0.02) -> Any:
    """The first true value of the condition. Raises AssertionError with `what`."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(step_s)
    return found


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, "HOME": "/nonexistent", **launcher().environment, **(extra or {})}


def run_tailbox(*arguments: str, extra: Mapping[str, str] | None = None, timeout_s: float = 30.0) -> Any:
    """A command, to its end: a CompletedProcess with text."""
    return subprocess.run(
        [launcher().python, "-m", "tailbox", *arguments],
        env=environment(extra),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=timeout_s,
        **launcher().identity,
    )


class TailboxProcess:
    """One process in its own directory, started as often as wanted; the log is appended to."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        launcher().give(directory)
        self.log_path = directory.with_name(f"{directory.name}.log")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def spawn(self, *, extra: Mapping[str, str] | None = None, stdin: Any = subprocess.DEVNULL) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [launcher().python, "-m", "tailbox", *self.command()],
                env=environment(extra),
                cwd="/",
                stdin=stdin,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **launcher().identity,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def rss_bytes(self) -> int:
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, number: int = signal.SIGTERM, *, patience_s: float = 10.0) -> tuple[int, float]:
        """Exit code and seconds. What does not end is killed and shows as -9."""
        assert self.process is not None
        started_at = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
        return int(self.process.returncode), time.monotonic() - started_at

    def assert_clean_log(self) -> None:
        log = self.log
        for sign in ("Traceback", "never retrieved", "never awaited", "Exception in callback", "SyntaxWarning"):
            assert sign not in log, f"{self.name}: {log[max(0, log.index(sign) - 2000) :][:6000]}"


class Server(TailboxProcess):
    """Coordinator and relay, or either, on ports that stay the same over restarts."""

    def __init__(self, directory: Path, *, roles: str = "coord,derp", flags: tuple[str, ...] = ()) -> None:
        super().__init__("server", directory)
        self.roles = roles
        self.port, self.tls_port = free_port(), free_port()
        self.stun_port = free_port(socket.SOCK_DGRAM)
        self.flags = flags
        self.url = f"http://{LOOPBACK}:{self.port}"

    def command(self) -> list[str]:
        flags = [f"--role={self.roles}", f"--listen={LOOPBACK}:{self.port}", f"--tls-listen={LOOPBACK}:{self.tls_port}"]
        flags += [f"--url={self.url}", f"--stun-port={self.stun_port}", f"--state-dir={self.directory}", "--verbose=2"]
        return ["serve", *flags, *self.flags]

    def start(self) -> None:
        self.spawn()
        self.wait_healthy()

    def wait_healthy(self) -> None:
        def answers() -> bool:
            assert self.is_alive, f"the server ended: {self.log[-3000:]}"
            return self.is_healthy()

        wait_for("server answers /healthz", answers)

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def token(self) -> str:
        return (self.directory / "coord" / "admin-token").read_text().strip()

    def rest(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer. Raises OSError: urllib's HTTPError among them."""
        request = urllib.request.Request(f"{self.url}/api/v2{path}", method=method)
        request.add_header("Authorization", "Basic " + b64encode(f"{self.token}:".encode()).decode())
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def create_key(self, description: str = "", **capabilities: bool) -> dict[str, Any]:
        device = {"reusable": True, "ephemeral": False, "preauthorized": True, **capabilities}
        body = {"description": description, "capabilities": {"devices": {"create": device}}}
        found: dict[str, Any] = self.rest("POST", "/tailnet/-/keys", body)
        return found

    def devices(self) -> dict[str, dict[str, Any]]:
        """By host name."""
        return {device["hostname"]: device for device in self.rest("GET", "/tailnet/-/devices")["devices"]}


class NodeProcess(TailboxProcess):
    """`tailbox up` in the foreground, with a proxy."""

    def __init__(self, name: str, directory: Path, server_url: str, *, flags: tuple[str, ...] = ()) -> None:
        super().__init__(name, directory)
        self.server_url = server_url
        self.proxy_port = free_port()
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self.flags = flags

    def command(self) -> list[str]:
        flags = [f"--login-server={self.server_url}", f"--hostname={self.name}", f"--state-dir={self.directory}"]
        flags += [f"--socks5-server={LOOPBACK}:{self.proxy_port}", f"--port={self.udp_port}", "--verbose=2"]
        return ["up", *flags, *self.flags]

    def start(self, auth_key: str = "", *, extra: Mapping[str, str] | None = None) -> None:
        """Spawn and wait until the node is up."""
        joins = {"TAILBOX_AUTH_KEY": auth_key} if auth_key else {}
        self.spawn(extra={**joins, **(extra or {})})
        self.wait_running()

    @property
    def client(self) -> LocalClient:
        return LocalClient(self.directory / SOCKET_NAME, timeout_s=15.0)

    def status(self) -> dict[str, Any]:
        """Empty while nobody answers."""
        try:
            found: dict[str, Any] = self.client.request("GET", "status")
            return found
        except (DaemonUnreachable, LocalApiError):
            return {}

    def wait_running(self) -> None:
        def runs() -> bool:
            assert self.is_alive, f"{self.name} ended: {self.log[-3000:]}"
            return self.status().get("BackendState") == "Running"

        wait_for(f"{self.name} is up; {self.log[-1500:]}", runs)

    @property
    def addresses(self) -> list[str]:
        return list(self.status().get("TailscaleIPs") or ())

    def peer(self, name: str) -> dict[str, Any]:
        """What this node says of another; empty if it does not know it."""
        peers = (self.status().get("Peer") or {}).values()
        return next((peer for peer in peers if peer["DNSName"].split(".")[0] == name), {})

    def ping(self, ip: str, kind: str = "disco") -> dict[str, Any]:
        """One ping, which may be lost: then there is an `Err`."""
        try:
            found: dict[str, Any] = self.client.request("POST", "ping", query={"ip": ip, "type": kind}, timeout_s=1.0)
            return found
        except (DaemonUnreachable, LocalApiError) as error:
            return {"Err": str(error)}

    def wait_path(self, other: NodeProcess, *, direct: bool) -> None:
        """Until the path to the other node is of this kind, with pings as traffic."""
        name, ip = other.name, wait_for(f"{other.name} has an address", lambda: other.addresses)[0]
        wait_for(f"{self.name} knows {name}", lambda: self.peer(name))

        def is_there() -> bool:
            answer = self.ping(ip)
            return not answer.get("Err") and bool(answer.get("Endpoint")) == direct

        wait_for(f"{self.name} reaches {name} {'directly' if direct else 'by relay'}", is_there, step_s=0.1)


def http_error_code(error: OSError) -> int:
    return error.code if isinstance(error, urllib.error.HTTPError) else 0
