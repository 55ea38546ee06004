"""Links against our own relay on loopback, over plain HTTP and TLS."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.crypto.x25519 import generate, node_public
from tailbox.derp.app import DerpRole
from tailbox.derp.config import DerpConfig
from tailbox.node import derp_link
from tailbox.node.derp_dial import DialSettings, plain_http_wanted, tls_options
from tailbox.node.derp_link import trains_of
from tailbox.node.underlay import Underlay
from tailbox.node.underlay_events import RelayConnected, RelayDisconnected
from tailbox.paths.path import Path as WayThere
from tailbox.paths.path import Relayed
from tailbox.randomness import SeededRandom
from tailbox.runtime import tls
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Address, Listen, RunningServer, serve
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.wire.control.derp_map import DERPMap, DERPNode, DERPRegion
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import LONGEST_TRAIN_BYTES, LONGEST_TRAIN_PACKETS, Train

REGION = 900


def node_at(port: int, *, plain: bool = True, cert_name: str = "", insecure: bool = False) -> DERPNode:
    return DERPNode(
        name="900a",
        region_id=REGION,
        host_name="127.0.0.1",
        derp_port=port,
        stun_port=-1,
        is_plain_http=plain,
        cert_name=cert_name,
        insecure_for_tests=insecure,
    )


def map_of(*nodes: DERPNode) -> DERPMap:
    return DERPMap(regions={REGION: DERPRegion(region_id=REGION, nodes=nodes)})


class Side:
    """A node's underlay without UDP."""

    def __init__(self, seed: str, **settings: object) -> None:
        self.private_key = generate(NodePrivateKey, SeededRandom(seed))
        self.key = node_public(self.private_key)
        self.received: list[tuple[Train, WayThere, NodePublicKey | None]] = []
        self.gone: list[tuple[NodePublicKey, int]] = []
        self.events: list[object] = []
        self._changed = asyncio.Event()
        self.underlay = Underlay(
            HostNetwork(),
            SystemClock(),
            lambda train, path, peer: self._note(self.received, (train, path, peer)),
            random=SystemRandom(),
            on_event=lambda event: self._note(self.events, event),
            on_peer_gone=lambda peer, region_id: self._note(self.gone, (peer, region_id)),
            **settings,  # type: ignore[arg-type]
        )
        self.underlay.set_private_key(self.private_key)

    def _note(self, notes: list, note: object) -> None:  # type: ignore[type-arg]
        notes.append(note)
        self._changed.set()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def at_home(self, derp_map: DERPMap) -> None:
        self.underlay.set_derp_map(derp_map)
        self.underlay.set_home(REGION)
        await self.until(lambda: self.underlay.connected_regions == (REGION,))


Relay = Callable[..., Awaitable[RunningServer]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def start_relay(stack: AsyncExitStack) -> Relay:
    async def start(*, port: int = 0, context: ssl.SSLContext | None = None) -> RunningServer:
        key = generate(NodePrivateKey, SeededRandom("relay"))
        config = DerpConfig(stun_port=-1, rate_limit_bytes_per_s=0)
        role = DerpRole(config, key, network=HostNetwork(), clock=SystemClock(), random=SystemRandom())
        running = await serve([role.service()], listen=[Listen(Address("127.0.0.1", port), context)])
        stack.push_async_callback(running.stop)
        return running

    return start


@pytest.fixture
def side(stack: AsyncExitStack) -> Callable[..., Side]:
    def make(seed: str, **settings: object) -> Side:
        made = Side(seed, **settings)
        stack.push_async_callback(made.underlay.close)
        return made

    return make


MakeSide = Callable[..., Side]


async def test_trains_pass_between_two_nodes(start_relay: Relay, side: MakeSide) -> None:
    derp_map = map_of(node_at((await start_relay()).address.port))
    a, b = side("a"), side("b")
    await a.at_home(derp_map)
    await b.at_home(derp_map)
    sent = Train(b"".join(bytes((4, 0, 0, index)) * 25 for index in range(20)) + b"short", 100)
    a.underlay.send(Relayed(REGION), b.key, sent)
    await b.until(lambda: sum(len(train) for train, _, _ in b.received) == 21)
    assert b"".join(bytes(train.data) for train, _, _ in b.received) == sent.data
    assert {(path, peer) for _, path, peer in b.received} == {(Relayed(REGION), a.key)}
    assert len(b.received) < 10
    assert a.underlay.snapshot().relays.sent_packets == 21


async def test_what_is_sent_before_the_login_waits_and_arrives(start_relay: Relay, side: MakeSide) -> None:
    derp_map = map_of(node_at((await start_relay()).address.port))
    a, b = side("a"), side("b")
    await b.at_home(derp_map)
    a.underlay.set_derp_map(derp_map)
    for index in range(50):
        a.underlay.send(Relayed(REGION), b.key, Train.of(bytes((index,)) * 10))
    await b.until(lambda: b.received)
    packets = [bytes(packet)[0] for train, _, _ in b.received for packet in train]
    assert packets == list(range(18, 50))  # the newest 32
    assert a.underlay.snapshot().relays.dropped_full == 18


async def test_a_departed_peer_is_reported(start_relay: Relay, side: MakeSide) -> None:
    derp_map = map_of(node_at((await start_relay()).address.port))
    a, b = side("a"), side("b")
    await a.at_home(derp_map)
    await b.at_home(derp_map)
    b.underlay.send(Relayed(REGION), a.key, Train.of(b"hello"))
    await a.until(lambda: a.received)
    await b.underlay.close()
    await a.until(lambda: (b.key, REGION) in a.gone)


async def test_home_is_found_again_after_the_relay_restarts(
    start_relay: Relay, side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derp_link, "LONGEST_RETRY_S", 0.05)
    relay = await start_relay()
    port = relay.address.port
    a = side("a")
    await a.at_home(map_of(node_at(port)))
    await relay.stop()
    await a.until(lambda: any(isinstance(event, RelayDisconnected) for event in a.events))
    assert a.underlay.connected_regions == ()
    await start_relay(port=port)
    await a.until(lambda: a.underlay.connected_regions == (REGION,))


async def test_a_new_key_logs_in_again(start_relay: Relay, side: MakeSide) -> None:
    derp_map = map_of(node_at((await start_relay()).address.port))
    a, b = side("a"), side("b")
    await a.at_home(derp_map)
    await b.at_home(derp_map)
    renewed = generate(NodePrivateKey, SeededRandom("renewed"))
    a.underlay.set_private_key(renewed)
    await a.until(lambda: sum(isinstance(event, RelayConnected) for event in a.events) == 2)
    a.underlay.send(Relayed(REGION), b.key, Train.of(b"hello"))
    await b.until(lambda: b.received)
    assert b.received[0][2] == node_public(renewed)


async def test_a_relay_gone_from_the_map_is_left(start_relay: Relay, side: MakeSide) -> None:
    a = side("a")
    await a.at_home(map_of(node_at((await start_relay()).address.port)))
    a.underlay.set_derp_map(DERPMap())  # says nothing of regions
    assert list(a.underlay.connected_regions) == [REGION]
    a.underlay.set_derp_map(DERPMap(regions={}))
    assert not a.underlay.connected_regions
    a.underlay.send(Relayed(REGION), a.key, Train.of(b"x"))
    assert a.underlay.snapshot().unroutable_packets == 1


async def test_links_other_than_home_end_when_idle(
    start_relay: Relay, side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derp_link, "IDLE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(derp_link, "CHECK_EVERY_S", 0.02)
    a = side("a")
    a.underlay.set_derp_map(map_of(node_at((await start_relay()).address.port)))
    a.underlay.send(Relayed(REGION), a.key, Train.of(b"x"))
    await a.until(lambda: RelayDisconnected(REGION, "idle", None) in a.events)
    assert a.underlay.connected_regions == ()


async def test_a_relay_that_fell_silent_is_left(
    start_relay: Relay, side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derp_link, "READ_TIMEOUT_S", 0.05)
    monkeypatch.setattr(derp_link, "CHECK_EVERY_S", 0.02)
    a = side("a")
    a.underlay.set_derp_map(map_of(node_at((await start_relay()).address.port)))
    a.underlay.set_home(REGION)
    await a.until(lambda: any(isinstance(e, RelayDisconnected) and "silent" in e.why for e in a.events))


async def test_the_next_node_of_a_region_is_tried(start_relay: Relay, side: MakeSide) -> None:
    port = (await start_relay()).address.port
    a = side("a")
    await a.at_home(map_of(node_at(1), node_at(port)))


async def test_tls_is_checked_as_the_map_asks(start_relay: Relay, side: MakeSide, tmp_path: Path) -> None:
    certificate = tls.development_certificate(tmp_path, unix_now_s=time.time())
    port = (await start_relay(context=tls.server_context(certificate))).address.port
    await side("insecure").at_home(map_of(node_at(port, plain=False, insecure=True)))
    await side("pinned").at_home(map_of(node_at(port, plain=False, cert_name=certificate.pin)))
    trusted = side("authority", relay_authorities=certificate.chain_file)
    await trusted.at_home(map_of(node_at(port, plain=False)))
    named = side("named", relay_authorities=certificate.chain_file)
    await named.at_home(map_of(node_at(port, plain=False, cert_name="localhost")))


@pytest.mark.parametrize("cert_name", ["", "sha256-raw:" + "00" * 32, "sha256-raw:nonsense", "elsewhere.example"])
async def test_an_unproven_relay_is_refused(start_relay: Relay, side: MakeSide, tmp_path: Path, cert_name: str) -> None:
    certificate = tls.development_certificate(tmp_path, unix_now_s=time.time())
    port = (await start_relay(context=tls.server_context(certificate))).address.port
    authorities = certificate.chain_file if cert_name == "elsewhere.example" else None
    a = side("a", relay_authorities=authorities)
    a.underlay.set_derp_map(map_of(node_at(port, plain=False, cert_name=cert_name)))
    a.underlay.set_home(REGION)
    await a.until(lambda: any(isinstance(event, RelayDisconnected) for event in a.events))
    assert a.underlay.connected_regions == ()


async def test_rebinding_keeps_links_that_answer(
    start_relay: Relay, side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derp_link, "PROBE_TIMEOUT_S", 0.05)
    a = side("a")
    await a.at_home(map_of(node_at((await start_relay()).address.port)))
    await a.underlay.rebind()
    await asyncio.sleep(0.1)
    assert a.underlay.connected_regions == (REGION,)


def test_the_environment_can_ask_for_plain_http() -> None:
    assert plain_http_wanted({"TS_DEBUG_USE_DERP_HTTP": "1"})
    assert not plain_http_wanted({"TS_DEBUG_USE_DERP_HTTP": "0"})
    assert not plain_http_wanted({})


def test_by_default_certificates_are_verified() -> None:
    options = tls_options(node_at(443, plain=False), DialSettings(time.time))
    assert options.context.verify_mode is ssl.CERT_REQUIRED
    assert options.context.check_hostname


@given(st.lists(st.binary(max_size=40), max_size=100))
def test_packets_are_joined_to_trains_without_loss(packets: list[bytes]) -> None:
    trains = trains_of(packets)
    assert [bytes(packet) for train in trains for packet in train] == [packet for packet in packets if packet]
    for train in trains:
        assert len(train) <= LONGEST_TRAIN_PACKETS
        assert len(train.data) <= LONGEST_TRAIN_BYTES


def test_equal_packets_become_one_train() -> None:
    assert [len(train) for train in trains_of([bytes(1312)] * 49 + [bytes(100)])] == [50]
    assert [len(train) for train in trains_of([bytes(1312)] * 210)] == [199, 11]
