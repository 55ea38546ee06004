"""Servers and nodes as separate processes on loopback, none with privileges."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.privileges import launcher
from tests.system.processes import NodeProcess, Server, TailboxProcess


class Machine:
    """Everything that runs during one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[TailboxProcess] = []

    def server(self, name: str = "server", *, roles: str = "coord,derp", flags: tuple[str, ...] = ()) -> Server:
        """Not started."""
        server = Server(self.directory / name, roles=roles, flags=flags)
        self.processes.append(server)
        return server

    def node(self, name: str, server: Server, *, flags: tuple[str, ...] = ()) -> NodeProcess:
        """Not started."""
        node = NodeProcess(name, self.directory / name, server.url, flags=flags)
        self.processes.append(node)
        return node

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A short path, since unix sockets lie in it. Kept, and named, if the test fails."""
    directory = Path(tempfile.mkdtemp(prefix="tbs", dir="/tmp"))
    directory.chmod(0o755)
    found = Machine(directory)
    yield found
    found.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def server(machine: Machine) -> Server:
    """A coordinator with its relay, answering."""
    found = machine.server()
    found.start()
    return found


@pytest.fixture
def pair(machine: Machine, server: Server) -> Callable[..., tuple[NodeProcess, NodeProcess]]:
    """Starts alpha and beta; `relayed`: they use no direct paths."""

    def start(*, relayed: bool = False) -> tuple[NodeProcess, NodeProcess]:
        key = server.create_key("system test")["key"]
        extra = {"TS_DEBUG_ALWAYS_USE_DERP": "1"} if relayed else {}
        nodes = machine.node("alpha", server), machine.node("beta", server)
        for node in nodes:
            node.spawn(extra={"TAILBOX_AUTH_KEY": key, **extra})
        for node in nodes:
            node.wait_running()
        nodes[0].wait_path(nodes[1], direct=not relayed)
        return nodes

    return start


def pytest_report_header() -> str:
    found = launcher()
    return f"system tests: processes as {found.why_privileged or found.identity or 'this user'}, {found.python}"
