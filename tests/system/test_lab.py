"""`tailbox lab`: one command, one Ctrl-C, and the same tailnet again."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tailbox.cli.local_client import LocalClient
from tests.system.conftest import Machine
from tests.system.processes import SOCKET_NAME, TailboxProcess, at_this_load, wait_for
from tests.system.transfers import socks_connect

pytestmark = pytest.mark.slow
ENDS_WITHIN_S = 2.0


class Lab(TailboxProcess):
    """The lab with its state in the process's directory."""

    def command(self) -> list[str]:
        return ["lab", f"--state-dir={self.directory}"]

    def start(self) -> None:
        offset = self.log_path.stat().st_size if self.log_path.exists() else 0
        self.spawn()

        def is_introduced() -> bool:
            assert self.is_alive, self.log[offset:]
            return "Ctrl-C stops" in self.log[offset:]

        wait_for("the lab is up", is_introduced, timeout_s=60)
        self.said = self.log[offset:]

    @property
    def proxy_port(self) -> int:
        found = re.search(r"curl --proxy socks5h://127\.0\.0\.1:(\d+) http://beta/", self.said)
        assert found is not None, self.said
        return int(found.group(1))

    @property
    def addresses(self) -> list[list[str]]:
        clients = (LocalClient(self.directory / name / SOCKET_NAME) for name in ("alpha", "beta"))
        return [client.request("GET", "status")["TailscaleIPs"] for client in clients]

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(word) for word in text.split()]


@pytest.fixture
def lab(machine: Machine) -> Lab:
    lab = Lab("lab", machine.directory / "lab")
    machine.processes.append(lab)
    return lab


def beta_page(lab: Lab) -> bytes:
    with socks_connect(lab.proxy_port, "beta", 80) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: beta\r\nConnection: close\r\n\r\n")
        page = b""
        while piece := connection.recv(65536):
            page += piece
    return page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_it_serves_a_page_ends_at_once_and_comes_back_the_same(lab: Lab, number: int) -> None:
    lab.start()
    assert b"Hello from beta" in beta_page(lab)
    link = re.search(r"http://127\.0\.0\.1:\d+/login\?token=\S+", lab.said)
    assert link is not None
    before, children = lab.addresses, lab.children()
    assert len(children) == 2
    code, seconds = lab.stop(number)
    assert (code, seconds < at_this_load(ENDS_WITHIN_S)) == (0, True), (
        f"{code} after {seconds:.2f} s: {lab.log[-2000:]}"
    )
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    lab.start()
    assert lab.addresses == before
    assert b"Hello from beta" in beta_page(lab)
    lab.assert_clean_log()
    for name in ("alpha", "beta"):
        assert "Traceback" not in (lab.directory / name / "node.log").read_text()


def test_nodes_do_not_outlive_a_killed_lab(lab: Lab) -> None:
    lab.start()
    children = lab.children()
    lab.kill()
    wait_for("the nodes are gone", lambda: not any(Path(f"/proc/{child}/exe").exists() for child in children), 5)
