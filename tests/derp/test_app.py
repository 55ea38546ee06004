"""The relay over real connections: both upgrade forms, WebSocket, probes, slow clients."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from tailbox.crypto.x25519 import generate, node_public
from tailbox.derp.core.client import ClientState, DerpClient, LoggedIn, PacketsReceived, PeerViolation
from tailbox.derp.core.login import ClientClaims, ServerClaims
from tailbox.randomness import SeededRandom
from tailbox.runtime.system import SystemRandom
from tailbox.wire.derp import (
    KeepAlive,
    NotePreferred,
    PeerGone,
    PeerGoneReason,
    Ping,
    Pong,
    SendPacket,
    UnknownFrame,
    WatchConns,
)
from tailbox.wire.keys import NodePrivateKey, NodePublicKey

DISCO = b"TS\xf0\x9f\x92\xac" + bytes(60)


def private_key(seed: int | str) -> NodePrivateKey:
    return generate(NodePrivateKey, SeededRandom(seed))


def public(seed: int | str) -> NodePublicKey:
    return node_public(private_key(seed))


async def test_packets_pass_both_ways_in_order(start_relay: Any) -> None:
    relay = await start_relay()
    one, two = await relay.client(1), await relay.client(2)
    for number in range(100):
        one.send(SendPacket(public(2), b"packet %d" % number))
    two.send(SendPacket(public(1), b""))
    assert await two.packets(100) == [(public(1), b"packet %d" % number) for number in range(100)]
    assert await one.packets(1) == [(public(2), b"")]
    assert relay.role.server.counters.packets_sent == 101


async def test_largest_packet_passes_and_a_larger_one_ends_the_connection(start_relay: Any) -> None:
    relay = await start_relay()
    one, two = await relay.client(1), await relay.client(2)
    one.send(SendPacket(public(2), bytes(65536)))
    assert await two.packets(1) == [(public(1), bytes(65536))]
    one.send(SendPacket(public(2), bytes(65537)))
    await one.ends()
    gone = await two.frame(PeerGone)
    assert gone == PeerGone(public(1), PeerGoneReason.DISCONNECTED)


async def test_fast_start_needs_no_response_head(start_relay: Any) -> None:
    relay = await start_relay()
    client = await relay.client(1, server_key=relay.key)
    client.send(SendPacket(public(1), b"to myself"))
    assert await client.packets(1) == [(public(1), b"to myself")]


async def test_response_head_names_version_and_key(start_relay: Any) -> None:
    relay = await start_relay()
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"Upgrade: DERP\r\n" in head
    assert b"Derp-Version: 2\r\n" in head
    assert b"Derp-Public-Key: " + relay.key.raw.hex().encode() + b"\r\n" in head
    writer.close()
    await writer.wait_closed()


async def test_an_old_client_calls_raw_frames_a_websocket(start_relay: Any) -> None:
    relay = await start_relay()
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert (await reader.readexactly(13))[5:] == b"DERP\xf0\x9f\x94\x91"
    writer.close()
    await writer.wait_closed()


async def test_websocket_clients_talk_to_raw_ones(start_relay: Any) -> None:
    relay = await start_relay()
    raw = await relay.client(1)
    machine = DerpClient(private_key(2), random=SystemRandom())
    async with connect_websocket(f"ws://127.0.0.1:{relay.port}/derp", subprotocols=["derp"], compression=None) as ws:  # type: ignore[list-item]
        events: list[object] = []
        while not any(isinstance(event, LoggedIn) for event in events):
            data = await asyncio.wait_for(ws.recv(), 5)
            assert isinstance(data, bytes)
            assert len(data) < 32768
            events += machine.receive_bytes(data)
            if output := machine.data_to_send():
                for byte in output:  # frames may be split over messages as one likes
                    await ws.send(bytes((byte,)))
        await ws.send(machine.send(SendPacket(public(1), b"over the web")))
        assert await raw.packets(1) == [(public(2), b"over the web")]
        raw.send(SendPacket(public(2), bytes(60_000)))
        received: list[bytes] = []
        while not received:
            data = await asyncio.wait_for(ws.recv(), 5)
            assert isinstance(data, bytes)
            assert len(data) < 32768
            for event in machine.receive_bytes(data):
                assert isinstance(event, PacketsReceived)
                received += event.packets
        assert received == [bytes(60_000)]
    assert relay.role.server.counters.websocket_accepts == 1


async def test_ping_is_answered(start_relay: Any) -> None:
    relay = await start_relay()
    client = await relay.client(1)
    client.send(Ping(b"12345678"))
    assert await client.frame(Pong) == Pong(b"12345678")


async def test_unknown_frames_pongs_and_repeated_preferences_are_harmless(start_relay: Any) -> None:
    relay = await start_relay()
    client = await relay.client(1)
    for frame in (UnknownFrame(0x77, bytes(100_000)), Pong(bytes(8)), NotePreferred(True), NotePreferred(True)):
        client.send(frame)
    client.send(Ping(b"12345678"))
    await client.frame(Pong)
    assert relay.role.server.counters.current_home_connections == 1
    assert relay.role.server.counters.unknown_frames == 1


@pytest.mark.parametrize("hostile", [
    WatchConns(),
    UnknownFrame(0x07, b"12"),
    UnknownFrame(0x12, b"short"),
    UnknownFrame(0x04, b"no key"),
    UnknownFrame(0x11, bytes(32)),
])  # fmt: skip
async def test_malformed_and_forbidden_frames_end_their_own_connection_only(start_relay: Any, hostile: Any) -> None:
    relay = await start_relay()
    bad, good = await relay.client(1), await relay.client(2)
    bad.send(hostile)
    await bad.ends()
    good.send(Ping(b"12345678"))
    await good.frame(Pong)
    assert relay.role.server.counters.client_violations == 1


async def test_an_unknown_peer_is_told_of_for_disco_only(start_relay: Any) -> None:
    relay = await start_relay()
    client = await relay.client(1)
    client.send(SendPacket(public(9), b"wireguard"))
    for _ in range(10):
        client.send(SendPacket(public(9), DISCO))
    client.send(Ping(b"12345678"))
    assert await client.frame(PeerGone) == PeerGone(public(9), PeerGoneReason.NOT_HERE)
    await client.frame(Pong)
    assert relay.role.server.counters.peer_gone_not_here_frames == 3


async def test_a_slow_reader_does_not_stop_others(start_relay: Any) -> None:
    relay = await start_relay(write_timeout_s=0.3)
    sender, slow, quick = await relay.client(1), await relay.client(2), await relay.client(3)
    counters = relay.role.server.counters
    for round_number in range(2000):
        sender.send(SendPacket(public(2), bytes(16_000)))
        if round_number % 100 == 0:
            sender.send(SendPacket(public(3), b"quick"))
            assert await quick.packets(1) == [(public(1), b"quick")]
        if counters.write_timeouts:
            break
        await sender.writer.drain()
        await asyncio.sleep(0)
        assert relay.role.server.budget.used_bytes <= relay.role.server.config.queue_bytes
    await relay.eventually(lambda: counters.write_timeouts == 1)
    await slow.ends()
    assert sum(count for (_, _), count in counters.packets_dropped.items()) > 0
    assert relay.role.server.budget.used_bytes == 0


async def test_a_reader_that_recovers_gets_the_newest_packets(start_relay: Any) -> None:
    relay = await start_relay(write_timeout_s=5.0, data_queue_packets=8)
    sender, slow = await relay.client(1), await relay.client(2)
    counters = relay.role.server.counters
    sent = 0
    while not counters.packets_dropped:
        sender.send(SendPacket(public(2), sent.to_bytes(4, "big") + bytes(10_000)))
        sent += 1
        await sender.writer.drain()
        await asyncio.sleep(0)
    last = -1
    async with asyncio.timeout(20):
        while last != sent - 1:
            for _, packet in await slow.packets(1):
                number = int.from_bytes(packet[:4], "big")
                assert number > last
                last = number


async def test_duplicates_move_to_the_newest_and_survive_its_end(start_relay: Any) -> None:
    relay = await start_relay()
    sender, old = await relay.client(1), await relay.client(2)
    new = await relay.client(2)
    sender.send(SendPacket(public(2), b"to the newest"))
    assert await new.packets(1) == [(public(1), b"to the newest")]
    assert relay.role.server.counters.current_duplicate_connections == 2
    await new.close()
    await relay.eventually(lambda: relay.role.server.counters.current_duplicate_keys == 0)
    sender.send(SendPacket(public(2), b"to the survivor"))
    assert await old.packets(1) == [(public(1), b"to the survivor")]


async def test_keep_alives_come_and_silent_clients_go(start_relay: Any) -> None:
    relay = await start_relay(keep_alive_s=0.05, keep_alive_jitter_s=0.01, silent_client_timeout_s=0.3)
    silent = await relay.client(1, claims=ClientClaims(can_ack_pings=True))
    quiet = await relay.client(2, claims=ClientClaims(can_ack_pings=False))
    await silent.frame(KeepAlive)
    await silent.frame(Ping)
    await silent.ends()
    quiet.send(Ping(b"12345678"))
    await quiet.frame(Pong)
    assert relay.role.server.counters.read_timeouts == 1


async def test_half_open_logins_end(start_relay: Any) -> None:
    relay = await start_relay(greeting_timeout_s=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n")
    async with asyncio.timeout(20):
        await reader.read(-1)
    assert relay.role.server.counters.refused["timeout"] == 1
    writer.close()
    await writer.wait_closed()


async def test_newcomers_beyond_the_rate_are_sent_away(start_relay: Any) -> None:
    relay = await start_relay(accepts_per_address_per_s=0.1)
    await relay.client(1)
    late = await relay.connect(2)
    await late.ends()
    violation = late.events[0]
    assert isinstance(violation, PeerViolation)
    assert "503" in violation.reason
    assert relay.role.server.counters.refused["address_rate"] == 1


async def test_no_more_clients_than_allowed(start_relay: Any) -> None:
    relay = await start_relay(max_connections=1)
    await relay.client(1)
    late = await relay.connect(2)
    await late.ends()
    assert late.machine.state is ClientState.FAILED


class Nobody:
    async def admits(self, key: NodePublicKey, source: str) -> bool:
        return False


async def test_whom_admission_refuses_sees_the_connection_end(start_relay: Any) -> None:
    relay = await start_relay(admission=Nobody())
    client = await relay.connect(1)
    await client.ends()
    assert client.machine.state is ClientState.LOGGING_IN
    assert relay.role.server.counters.refused["not_admitted"] == 1


async def test_the_relays_own_key_is_no_client(start_relay: Any) -> None:
    relay = await start_relay()
    client = await relay.connect("relay")
    await client.ends()
    assert client.machine.state is ClientState.LOGGING_IN


async def test_the_rate_limit_slows_a_sender_and_loses_nothing(start_relay: Any) -> None:
    relay = await start_relay(rate_limit_bytes_per_s=1_000_000, rate_limit_burst_bytes=65_568)
    one, two = await relay.client(1), await relay.client(2)
    start = asyncio.get_running_loop().time()
    for _ in range(40):
        one.send(SendPacket(public(2), bytes(20_000)))
    assert len(await two.packets(40)) == 40
    assert asyncio.get_running_loop().time() - start > 0.2
    assert relay.role.server.counters.rate_limit_waits > 0


async def test_plain_answers(start_relay: Any) -> None:
    relay = await start_relay()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{relay.port}") as http:
        for path in ("/derp/probe", "/derp/latency-check"):
            for method in ("GET", "HEAD"):
                answer = await http.request(method, path)
                assert (answer.status_code, answer.content) == (200, b"")
                assert answer.headers["access-control-allow-origin"] == "*"
            assert (await http.post(path)).status_code == 405
        assert (await http.get("/derp")).status_code == 426
        answer = await http.post("/generate_204", headers={"X-Tailscale-Challenge": "ts_relay.test"})
        assert (answer.status_code, answer.headers["x-tailscale-response"]) == (204, "response ts_relay.test")
        for challenge in ("a b", "x" * 65, "<script>"):
            answer = await http.get("/generate_204", headers={"X-Tailscale-Challenge": challenge})
            assert "x-tailscale-response" not in answer.headers
        assert (await http.get("/robots.txt")).text == "User-agent: *\nDisallow: /\n"
        assert "DERP relay" in (await http.get("/")).text
        assert (await http.get("/bootstrap-dns")).content == b""
        health = (await http.get("/healthz")).json()
        assert health["services"]["derp"]["status"] == "ok"
        metrics = (await http.get("/metrics")).text
        assert "derp_current_connections 0.0" in metrics
        assert "derp_accepts_total 0.0" in metrics


async def test_metrics_follow_the_traffic(start_relay: Any) -> None:
    relay = await start_relay()
    one = await relay.client(1, ideal_node="900a")
    one.send(SendPacket(public(9), DISCO))
    await one.frame(PeerGone)
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{relay.port}/metrics")).text
    assert "derp_current_notideal_connections 1.0" in text
    assert 'derp_packets_dropped_total{kind="disco",reason="unknown_dest"} 1.0' in text
    assert 'derp_packets_received_total{kind="disco"} 1.0' in text


async def test_the_rate_limit_is_advertised_when_asked_for(start_relay: Any) -> None:
    relay = await start_relay(advertises_rate_limit=True, rate_limit_bytes_per_s=1000, rate_limit_burst_bytes=1)
    client = await relay.connect(1)
    event = await client.wait(lambda event: isinstance(event, LoggedIn))
    assert isinstance(event, LoggedIn)
    assert event.claims == ServerClaims(2, 1000, 65568)


async def test_websockets_must_speak_derp(start_relay: Any) -> None:
    relay = await start_relay()
    async with connect_websocket(f"ws://127.0.0.1:{relay.port}/derp") as ws:
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(ws.recv(), 5)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1008


async def test_stopping_ends_every_client(start_relay: Any) -> None:
    relay = await start_relay()
    clients = [await relay.client(number) for number in range(3)]
    await asyncio.wait_for(relay.running.stop(), 3)
    for client in clients:
        await client.ends()
