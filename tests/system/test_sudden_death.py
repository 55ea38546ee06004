"""kill -9: what was acknowledged is there afterwards, and everybody comes back as who they were."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.system.conftest import Machine
from tests.system.processes import NodeProcess, Server, http_error_code, wait_for

pytestmark = pytest.mark.slow
SEED = 20260501
ROUNDS = 5


class Writer(threading.Thread):
    """Writes by REST without a pause, and remembers what was acknowledged."""

    def __init__(self, server: Server, device_id: str, stop: threading.Event, number: int) -> None:
        super().__init__(daemon=True)
        self._server, self._device_id, self._stop_wanted, self._number = server, device_id, stop, number
        self.keys: list[str] = []
        self.names: list[str] = []  # tried, in order; the last acknowledged one counts
        self.acknowledged_names = 0
        self.refusals: list[str] = []

    def run(self) -> None:
        while not self._stop_wanted.is_set():
            try:
                self.keys.append(self._server.create_key(f"writer {self._number}")["id"])
                name = f"n{self._number}-{len(self.names)}"
                self.names.append(name)
                self._server.rest("POST", f"/device/{self._device_id}/name", {"name": name})
                self.acknowledged_names = len(self.names)
            except (OSError, ValueError) as error:  # ValueError: an answer cut short
                if http_error_code(error) if isinstance(error, OSError) else 0:
                    self.refusals.append(repr(error))
                if self._stop_wanted.wait(0.05):
                    return
            except Exception as error:  # http.client's, none of which is an OSError
                if type(error).__module__ != "http.client":
                    self.refusals.append(repr(error))


@pytest.mark.timeout(240)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(machine: Machine, server: Server) -> None:
    chance = random.Random(SEED)
    key = server.create_key("joins")["key"]
    nodes = [machine.node(name, server) for name in ("alpha", "beta")]
    for node in nodes:
        node.start(key)
    ids = [server.devices()[node.name]["nodeId"] for node in nodes]
    joined: dict[str, list[str]] = {node.name: node.addresses for node in nodes}
    acknowledged: set[str] = set()
    for round_number in range(ROUNDS):
        stop = threading.Event()
        writers = [Writer(server, device_id, stop, number + 2 * round_number) for number, device_id in enumerate(ids)]
        for writer in writers:
            writer.start()
        newcomer = machine.node(f"new{round_number}", server)
        newcomer.spawn(extra={"TAILBOX_AUTH_KEY": key})
        time.sleep(chance.uniform(0.3, 1.5))
        server.kill()
        stop.set()
        for writer in writers:
            writer.join(15)
        server.start()

        acknowledged |= {key_id for writer in writers for key_id in writer.keys}
        known = {found["id"] for found in server.rest("GET", "/tailnet/-/keys?all=true")["keys"]}
        assert acknowledged <= known
        names = {device["nodeId"]: device["name"].split(".")[0] for device in server.devices().values()}
        for writer, device_id in zip(writers, ids, strict=True):
            assert writer.refusals == []
            if writer.acknowledged_names:
                assert names[device_id] in writer.names[writer.acknowledged_names - 1 :]
        newcomer.wait_running()
        joined[newcomer.name] = newcomer.addresses
        newcomer.kill()
    assert_whole(server, joined)
    print(f"{len(acknowledged)} keys over {ROUNDS} kills")


def assert_whole(server: Server, joined: dict[str, list[str]]) -> None:
    devices = server.devices()
    assert {name: device["addresses"] for name, device in devices.items()} == joined
    addresses = [address for device in devices.values() for address in device["addresses"]]
    assert len(addresses) == len(set(addresses))
    with sqlite3.connect(f"file:{server.directory}/coord/tailnet.sqlite?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        sequences = [row[0] for row in database.execute("SELECT sequence FROM journal ORDER BY sequence")]
    assert sequences == list(range(1, len(sequences) + 1))
    server.assert_clean_log()


def test_a_killed_node_comes_back_as_itself(pair: Callable[..., tuple[NodeProcess, NodeProcess]]) -> None:
    alpha, beta = pair()
    chance = random.Random(SEED)
    before = alpha.addresses, alpha.status()["Self"]["PublicKey"], alpha.status()["Self"]["ID"]
    state_file = alpha.directory / "tailscaled.state"
    for _ in range(6):
        alpha.kill()
        assert_readable(state_file.read_bytes())
        alpha.spawn()  # without a key
        with suppress(AssertionError):
            wait_for("it may get some way", lambda: False, timeout_s=chance.uniform(0.05, 1.2))
    alpha.wait_running()
    assert (alpha.addresses, alpha.status()["Self"]["PublicKey"], alpha.status()["Self"]["ID"]) == before
    alpha.wait_path(beta, direct=True)
    alpha.assert_clean_log()
    beta.assert_clean_log()


def assert_readable(data: bytes) -> None:
    found: dict[str, Any] = json.loads(data)
    assert {"_machinekey", "_current-profile", "_profiles"} <= found.keys()
