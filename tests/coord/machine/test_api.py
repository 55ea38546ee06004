"""What nodes ask: registration with and without a person, map streams, and the refusals of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from starlette.types import ASGIApp, Message, Scope

from tailbox.coord.machine import map_streams
from tailbox.coord.machine.api import NOT_OFFERED
from tailbox.wire.control.framing import FrameDecoder
from tailbox.wire.control.json import encode
from tailbox.wire.control.registration import LOGOUT_EXPIRY, RegisterAuth, RegisterRequest
from tailbox.wire.keys import MachinePublicKey, NodePublicKey

if TYPE_CHECKING:
    from tests.coord.conftest import Lab

MACHINE = MachinePublicKey(bytes([101]) * 32)  # of Lab.add_node's first node
NODE = NodePublicKey(bytes([1]) * 32)


class Exchange:
    """One request inside a control channel, its answer as it comes."""

    def __init__(self, app: ASGIApp, method: str, path: str, body: bytes, machine_key: MachinePublicKey) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self._news = asyncio.Event()
        self._left = asyncio.Event()
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        scope: Scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [], "root_path": "", "scheme": "https", "client": ("192.0.2.5", 1), "server": None,
            "http_version": "2", "asgi": {"version": "3.0", "spec_version": "2.3"},
            "state": {"machine_key": machine_key, "noise_version": 113},
        }  # fmt: skip
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self.body += message.get("body", b"")
        self._news.set()

    def leave(self) -> None:
        self._left.set()

    async def done(self) -> Exchange:
        await asyncio.wait_for(self.task, 3)
        return self

    async def messages(self, count: int, *, compressed: bool = False) -> list[dict[str, object]]:
        """Wait until so many frames have come."""
        async with asyncio.timeout(3):
            while True:
                payloads = FrameDecoder(compressed=compressed).feed(self.body)
                if len(payloads) >= count:
                    return [json.loads(payload) for payload in payloads]
                self._news.clear()
                await self._news.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_streams, "COALESCE_S", 0.01)


def ask(
    lab: Lab, path: str, body: object, *, machine_key: MachinePublicKey = MACHINE, method: str = "POST"
) -> Exchange:
    raw = body if isinstance(body, bytes) else encode(body)
    return Exchange(lab.coord._noise._app, method, path, raw, machine_key)


async def register(lab: Lab, request: RegisterRequest, *, machine_key: MachinePublicKey = MACHINE) -> dict[str, object]:
    answer = await ask(lab, "/machine/register", request, machine_key=machine_key).done()
    assert answer.status == 200
    decoded = json.loads(answer.body)
    assert isinstance(decoded, dict)
    return decoded


@asynccontextmanager
async def polling(lab: Lab, **members: object) -> AsyncIterator[Exchange]:
    wanted = {"Version": 113, "NodeKey": NODE.text, "Stream": True, "KeepAlive": True, **members}
    exchange = ask(lab, "/machine/map", wanted)
    try:
        yield exchange
    finally:
        exchange.leave()
        await exchange.done()


async def test_an_auth_key_registers_and_a_restart_changes_nothing(lab: Lab) -> None:
    wanted = RegisterRequest(version=113, node_key=NODE, auth=RegisterAuth(auth_key=await lab.coord.create_auth_key()))
    for _ in range(2):
        answer = await register(lab, wanted)
        assert (answer["Error"], answer["AuthURL"], answer["MachineAuthorized"]) == ("", "", True)
    assert len(lab.coord.coordinator.tailnet.nodes) == 1


async def test_refusals_are_errors_in_a_200(lab: Lab) -> None:
    wrong = RegisterRequest(version=113, node_key=NODE, auth=RegisterAuth(auth_key="tskey-auth-x-y"))
    assert (await register(lab, wrong))["Error"] == "invalid pre auth key"
    await lab.add_node()
    stolen = RegisterRequest(version=113, node_key=NODE)
    other = MachinePublicKey(b"o" * 32)
    assert "another machine" in str((await register(lab, stolen, machine_key=other))["Error"])


async def test_a_followup_is_held_until_somebody_decides(lab: Lab) -> None:
    first = await register(lab, RegisterRequest(version=113, node_key=NODE))
    url = str(first["AuthURL"])
    assert url.startswith("http://box.example:8080/login/")
    held = ask(lab, "/machine/register", RegisterRequest(version=113, node_key=NODE, followup=url))
    await asyncio.sleep(0.05)
    assert not held.task.done()
    login_id = url.rpartition("/")[2]
    await lab.tool().post(f"/api/v2/tailnet/-/pending-logins/{login_id}/approve")
    answer = json.loads((await held.done()).body)
    assert (answer["AuthURL"], answer["Login"]["LoginName"]) == ("", "admin")


async def test_a_refused_machine_hears_it_at_once_and_a_client_that_leaves_is_forgotten(lab: Lab) -> None:
    url = str((await register(lab, RegisterRequest(version=113, node_key=NODE)))["AuthURL"])
    followup = RegisterRequest(version=113, node_key=NODE, followup=url)
    held, left = (ask(lab, "/machine/register", followup) for _ in range(2))
    await asyncio.sleep(0.02)
    left.leave()
    await left.done()
    login_id = url.rpartition("/")[2]
    await lab.tool().post(f"/api/v2/tailnet/-/pending-logins/{login_id}/refuse")
    answer = json.loads((await held.done()).body)
    assert (answer["Error"], answer["AuthURL"]) == ("an administrator refused this machine", "")
    assert (await register(lab, RegisterRequest(version=113, node_key=NODE)))["Error"] == answer["Error"]
    assert not lab.coord.coordinator.tailnet.pending_logins
    assert len(lab.coord._waits) == 0


async def test_registering_without_end_is_answered_429(lab: Lab) -> None:
    answers = [
        await ask(lab, "/machine/register", RegisterRequest(version=113, node_key=NODE)).done() for _ in range(32)
    ]
    assert answers[0].status == 200
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/machine/register", "/machine/map"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"NodeKey":""}', b'{"NodeKey":"nodekey:12"}', b"\xff"])
async def test_bodies_that_do_not_decode_are_400(lab: Lab, path: str, body: bytes) -> None:
    assert (await ask(lab, path, body).done()).status == 400


async def test_what_is_not_offered_is_501_and_the_rest_404(lab: Lab) -> None:
    for method, path in NOT_OFFERED:
        assert (await ask(lab, path, b"{}", method=method).done()).status == 501
    missing = await ask(lab, "/machine/nothing", b"").done()
    assert (missing.status, missing.body) == (404, b"not found\n")


async def test_a_node_key_counts_only_with_its_machine_key(lab: Lab) -> None:
    await lab.add_node()
    wanted = {"Version": 113, "NodeKey": NODE.text, "Stream": True}
    assert (await ask(lab, "/machine/map", wanted, machine_key=MachinePublicKey(b"o" * 32)).done()).status == 404
    unknown = {**wanted, "NodeKey": "nodekey:" + "9" * 64}
    assert (await ask(lab, "/machine/map", unknown).done()).status == 404


async def test_a_lite_update_is_stored_and_answered_by_nothing(lab: Lab) -> None:
    node = await lab.add_node()
    wanted = {"Version": 113, "NodeKey": NODE.text, "OmitPeers": True, "Endpoints": ["192.0.2.1:41641"]}
    answer = await ask(lab, "/machine/map", wanted).done()
    assert (answer.status, answer.body) == (200, b"")
    assert lab.coord.coordinator.tailnet.node(node.id).endpoints == ("192.0.2.1:41641",)


@pytest.mark.parametrize("members", [{}, {"Stream": True, "ReadOnly": True}])
async def test_a_one_shot_question_gets_one_map(lab: Lab, members: dict[str, bool]) -> None:
    await lab.add_node()
    answer = await ask(lab, "/machine/map", {"Version": 113, "NodeKey": NODE.text, **members}).done()
    [message] = await answer.messages(1)
    assert "Node" in message
    assert not lab.coord.coordinator.tailnet.nodes[1].is_online


@pytest.mark.parametrize("compress", ["", "zstd"])
async def test_a_stream_begins_with_the_whole_map_and_tells_of_changes(lab: Lab, compress: str) -> None:
    node = await lab.add_node()
    async with polling(lab, Compress=compress) as poll:
        [first] = await poll.messages(1, compressed=bool(compress))
        assert first["Node"]["ID"] == node.id  # type: ignore[index]  # plain JSON
        assert "900" in first["DERPMap"]["Regions"]  # type: ignore[index]  # plain JSON
        assert first["PacketFilters"]
        assert lab.coord.coordinator.tailnet.node(node.id).is_online
        peer = await lab.add_node("beta", 2)
        messages = await poll.messages(2, compressed=bool(compress))
        assert [changed["ID"] for changed in messages[1]["PeersChanged"]] == [peer.id]  # type: ignore[attr-defined]
    assert lab.coord.coordinator.tailnet.node(node.id).sessions == 0


async def test_a_second_stream_replaces_the_first_without_a_flap(lab: Lab) -> None:
    node = await lab.add_node()
    async with polling(lab) as first:
        await first.messages(1)
        async with polling(lab) as second:
            await second.messages(1)
            await first.done()
            assert lab.coord.coordinator.tailnet.node(node.id).sessions == 1
            assert lab.coord.coordinator.tailnet.node(node.id).is_online


async def test_a_deleted_node_is_told_that_its_key_has_ended(lab: Lab) -> None:
    node = await lab.add_node()
    async with polling(lab) as poll:
        await poll.messages(1)
        await lab.tool().delete(f"/api/v2/device/{node.id}")
        messages = await poll.messages(2)
        await poll.done()
    assert messages[-1]["Node"]["KeyExpiry"] < "2023-11-14T22:13:20Z"  # type: ignore[index]  # plain JSON


async def test_logging_out_ends_the_key(lab: Lab) -> None:
    node = await lab.add_node()
    assert (await register(lab, RegisterRequest(version=113, node_key=NODE, expiry=LOGOUT_EXPIRY)))["Error"] == ""
    assert not lab.coord.knows_node(node.node_key)


async def test_stopping_ends_streams_and_held_registrations(lab: Lab) -> None:
    await lab.add_node()
    wanted = RegisterRequest(version=113, node_key=NodePublicKey(b"x" * 32))
    url = str((await register(lab, wanted))["AuthURL"])
    held = ask(lab, "/machine/register", {"Version": 113, "NodeKey": wanted.node_key.text, "Followup": url})
    poll = ask(lab, "/machine/map", {"Version": 113, "NodeKey": NODE.text, "Stream": True})
    await poll.messages(1)
    lab.coord._streams.end_all()
    lab.coord._waits.close()
    await poll.done()
    assert json.loads((await held.done()).body)["AuthURL"] == url


async def test_a_stream_that_ends_while_the_disk_is_full_still_takes_its_node_offline(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailbox.coord.machine.api.LEAVE_RETRY_S", 0.01)
    node = await lab.add_node()
    connection = lab.coord.coordinator._store._connection
    async with polling(lab) as stream:
        await stream.messages(1)
        assert lab.coord.coordinator.tailnet.nodes[node.id].sessions == 1
        connection.execute("PRAGMA query_only = ON")
        stream.leave()
        await asyncio.sleep(0.05)
        assert not stream.task.done()
        connection.execute("PRAGMA query_only = OFF")
    assert lab.coord.coordinator.tailnet.nodes[node.id].sessions == 0
    assert len(lab.coord._streams) == 0


async def test_what_cannot_be_stored_makes_clients_come_back(lab: Lab) -> None:
    await lab.add_node()
    connection = lab.coord.coordinator._store._connection
    connection.execute("PRAGMA query_only = ON")
    async with polling(lab) as stream:
        pass
    assert (stream.status, stream.body, len(lab.coord._streams)) == (200, b"", 0)
    update = {"Version": 113, "NodeKey": NODE.text, "OmitPeers": True, "DiscoKey": "discokey:" + "d" * 64}
    assert (await ask(lab, "/machine/map", update).done()).status == 503
    connection.execute("PRAGMA query_only = OFF")
