"""Real programs and ours, together in a network of the test module's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.interop import isolated_network
from tests.interop.isolated_network import IsolatedNetwork
from tests.interop.real_programs import RealNode, RealProcess, missing_programs
from tests.system.processes import LOOPBACK, NodeProcess, Server, TailboxProcess


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedNetwork]:
    """The module's tests see loopback and an interface that leads nowhere. Skips without root."""
    if why := isolated_network.reason_to_skip():
        pytest.skip(why)
    try:
        network = IsolatedNetwork().__enter__()
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error.strerror}")
    try:
        network.add_local_network()
        yield network
    finally:
        network.__exit__(None, None, None)


@dataclass
class Lab:
    """What runs in the module's network."""

    directory: Path
    processes: list[TailboxProcess | RealProcess] = field(default_factory=list)
    pages: list[ThreadingHTTPServer] = field(default_factory=list)

    def server(
        self, name: str = "server", *, roles: str = "coord,derp", flags: tuple[str, ...] = (), starts: bool = True
    ) -> Server:
        """Tailbox's, answering unless it is to be started later."""
        server = Server(self.directory / name, roles=roles, flags=flags)
        self.processes.append(server)
        if starts:
            server.start()
        return server

    def our_node(
        self, name: str, server_url: str, auth_key: str, *, flags: tuple[str, ...] = (), extra: Mapping[str, str] = {}
    ) -> NodeProcess:
        """A Tailbox node that is up."""
        node = NodeProcess(name, self.directory / name, server_url, flags=flags)
        self.processes.append(node)
        node.start(auth_key, extra=extra)
        return node

    def real_node(self, name: str, *, extra: Mapping[str, str] = {}) -> RealNode:
        """A `tailscaled` that answers and has no login yet."""
        node = RealNode(name, self.directory / name)
        self.processes.append(node)
        node.spawn_daemon(extra=extra)
        return node

    def page(self, text: str) -> int:
        """A web page on loopback, where every node here forwards its tailnet connections; returns the port."""

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        page = ThreadingHTTPServer((LOOPBACK, 0), Page)
        Thread(target=page.serve_forever, daemon=True).start()
        self.pages.append(page)
        return int(page.server_port)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        for page in self.pages:
            page.shutdown()
            page.server_close()


@pytest.fixture(scope="module")
def lab(isolated: IsolatedNetwork) -> Iterator[Lab]:
    """Empty. A short path, since unix sockets lie in it."""
    directory = Path(tempfile.mkdtemp(prefix="tbi", dir="/tmp"))
    directory.chmod(0o755)
    found = Lab(directory)
    try:
        yield found
    finally:
        found.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def real_tailscale() -> None:
    """Skips where `tailscaled` and `tailscale` are missing."""
    if why := missing_programs("tailscaled", "tailscale"):
        pytest.skip(why)
