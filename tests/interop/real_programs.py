"""Tailscale's and Headscale's own programs as processes of a test, always inside an IsolatedNetwork.

They are looked for in the directory that TAILBOX_REAL_PROGRAMS names, then on PATH; `.ci/real-programs` installs them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.system.processes import LOOPBACK, Server, free_port, wait_for

PROGRAMS_VARIABLE = "TAILBOX_REAL_PROGRAMS"
CONTAINED = {  # as for upstream's own tests: no log upload, no port mapping, and an end instead of the public service
    "TS_NO_LOGS_NO_SUPPORT": "true",
    "TS_ASSUME_NETWORK_UP_FOR_TEST": "1",
    "TS_PANIC_IF_HIT_MAIN_CONTROL": "1",
    "TS_DISABLE_PORTMAPPER": "1",
}
RELAYED_ONLY = {"TS_DEBUG_ALWAYS_USE_DERP": "1"}


def find_program(name: str) -> str:
    """Its path, "" if it is not installed."""
    chosen = os.environ.get(PROGRAMS_VARIABLE, "")
    return shutil.which(name, path=chosen) or shutil.which(name) or "" if chosen else shutil.which(name) or ""


def missing_programs(*names: str) -> str:
    """Why a test that needs these is skipped, "" if all are here."""
    missing = [name for name in names if not find_program(name)]
    return f"not in ${PROGRAMS_VARIABLE} or on PATH: {', '.join(missing)}" if missing else ""


def run_program(
    name: str,
    *arguments: str,
    timeout_s: float = 30.0,
    extra: Mapping[str, str] | None = None,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """A program, to its end, with its output as text; `check`: failure is an AssertionError that shows it."""
    done = subprocess.run(
        [find_program(name), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **CONTAINED, **(extra or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if check:
        assert done.returncode == 0, f"{name} {' '.join(arguments)} → {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start_program(name: str, *arguments: str) -> subprocess.Popen[str]:
    """A program in the background, its three streams being pipes with text."""
    return subprocess.Popen(
        [find_program(name), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **CONTAINED},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pending_logins(server: Server) -> list[dict[str, str]]:
    """Logins that wait for a person at our coordinator."""
    found: list[dict[str, str]] = server.rest("GET", "/tailnet/-/pending-logins")["pendingLogins"]
    return found


class RealProcess:
    """A program that stays, its output in a log file."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        self.log_path = directory.with_name(f"{directory.name}.log")
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, program: str, *arguments: str, extra: Mapping[str, str] | None = None) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [find_program(program), *arguments],
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **CONTAINED, **(extra or {})},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM, and its end."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(10)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class RealNode(RealProcess):
    """`tailscaled` with userspace networking, driven by the real command line."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory)
        self.socket = directory / "s"
        self.proxy_port = free_port()

    def spawn_daemon(self, *, extra: Mapping[str, str] | None = None) -> None:
        arguments = ["--tun=userspace-networking", "--no-logs-no-support", "--port=0", f"--statedir={self.directory}"]
        arguments += [f"--socket={self.socket}", f"--socks5-server={LOOPBACK}:{self.proxy_port}"]
        self.spawn("tailscaled", *arguments, extra={"TS_LOGS_DIR": str(self.directory), **(extra or {})})
        wait_for(f"{self.name} has a socket", lambda: self.socket.exists() and self.tailscale("status").stdout)

    def tailscale(self, *arguments: str, timeout_s: float = 30.0, check: bool = False) -> Any:
        """The command line, to its end: a CompletedProcess with text."""
        return run_program("tailscale", f"--socket={self.socket}", *arguments, timeout_s=timeout_s, check=check)

    def up(self, server_url: str, auth_key: str = "", *flags: str) -> None:
        """Join, and wait until the daemon runs. Raises AssertionError with what it prints."""
        key = [f"--auth-key={auth_key}"] if auth_key else []
        command = ["up", f"--login-server={server_url}", f"--hostname={self.name}", "--timeout=25s", *key, *flags]
        done = self.tailscale(*command, timeout_s=40.0)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log[-4000:]}"

    def start_up(self, server_url: str, *flags: str) -> subprocess.Popen[str]:
        """`up` in the background, for logins that a person completes. Output: its stderr."""
        command = [f"--socket={self.socket}", "up", f"--login-server={server_url}", f"--hostname={self.name}"]
        return start_program("tailscale", *command, "--timeout=40s", *flags)

    def status(self) -> dict[str, Any]:
        """`status --json`; empty while nobody answers."""
        done = self.tailscale("status", "--json")
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return found

    @property
    def addresses(self) -> list[str]:
        return list(self.status().get("TailscaleIPs") or ())

    def peer(self, name: str) -> dict[str, Any]:
        """What this node says of another; empty if it does not know it."""
        peers = (self.status().get("Peer") or {}).values()
        return next((peer for peer in peers if peer["DNSName"].split(".")[0] == name), {})

    def ping(self, target: str, *flags: str, until_direct: bool = False) -> str:
        """What `ping` prints: until the first answer, or the first direct one."""
        counts = ["--c=15", "--until-direct=true"] if until_direct else ["--c=1", "--until-direct=false"]
        done = self.tailscale("ping", "--timeout=3s", *counts, *flags, target)
        return f"{done.stdout}{done.stderr}"

    def wait_ping(self, target: str, *flags: str) -> str:
        """Ping until an answer comes: a path that is new may cost the first one."""
        said = ""
        deadline = time.monotonic() + 20.0
        while not said.startswith("pong"):
            assert time.monotonic() < deadline, f"no pong: {said}\n{self.log[-3000:]}"
            said = self.ping(target, *flags)
        return said


def fetch(url: str, proxy_port: int, *, timeout_s: float = 20.0) -> str:
    """What curl gets through a SOCKS5 proxy that resolves the name itself. Raises AssertionError."""
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", f"{timeout_s:g}"]
    done = subprocess.run(
        [*command, "--socks5-hostname", f"{LOOPBACK}:{proxy_port}", url], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{url}: {done.stderr}"
    return done.stdout
