"""Real sockets on loopback, with and without the kernel's segmentation."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tailbox.node.underlay import Underlay
from tailbox.node.underlay_events import EndpointUnreachable, SegmentationOffloadRefused, UdpBound, UdpUnavailable
from tailbox.paths.path import Direct, Path, Relayed
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import NodePublicKey
from tailbox.wire.train import Train

PEER = NodePublicKey(bytes(range(32)))
WIRE_BYTES = 1312


class Side:
    """An underlay that remembers what came."""

    def __init__(self, network: HostNetwork, **settings: Any) -> None:
        self.packets: list[bytes] = []
        self.trains: list[tuple[int, Path]] = []
        self.events: list[object] = []
        self._arrived = asyncio.Event()
        self.underlay = Underlay(
            network,
            SystemClock(),
            self.receive,
            random=SystemRandom(),
            on_event=self.events.append,
            include_loopback=True,
            **settings,
        )

    def receive(self, train: Train, path: Path, peer: NodePublicKey | None) -> None:
        assert peer is None
        self.packets += [bytes(packet) for packet in train]
        self.trains.append((len(train), path))
        self._arrived.set()

    async def expect(self, count: int) -> list[bytes]:
        async with asyncio.timeout(20):
            while len(self.packets) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.packets

    def at(self, host: str) -> Direct:
        return Direct(Endpoint.parse(f"{host}:{self.underlay.port}"))


Refusal = Callable[[str], OSError | None]  # by the name of the call


class StubbornSocket:
    """A socket that refuses to send what it is told to refuse."""

    def __init__(self, real: socket.socket, refuse: Refusal) -> None:
        self.real = real
        self._refuse = refuse

    def sendto(self, *args: Any) -> int:
        return self._unless_refused("sendto", *args)

    def sendmsg(self, *args: Any) -> int:
        return self._unless_refused("sendmsg", *args)

    def _unless_refused(self, name: str, *args: Any) -> int:
        if (error := self._refuse(name)) is not None:
            raise error
        return int(getattr(self.real, name)(*args))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class StubbornNetwork(HostNetwork):
    """The machine's network with such sockets."""

    def __init__(self, refuse: Refusal) -> None:
        self._refuse = refuse

    def open_udp(self, family: socket.AddressFamily, port: int) -> Any:
        return StubbornSocket(super().open_udp(family, port), self._refuse)

    def watch_readable(self, watched: Any, callback: Callable[[], None] | None) -> None:
        super().watch_readable(watched.real, callback)

    def watch_writable(self, watched: Any, callback: Callable[[], None] | None) -> None:
        super().watch_writable(watched.real, callback)


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def opened(network: HostNetwork | None = None, **settings: Any) -> Side:
            side = Side(network or HostNetwork(), **settings)
            await side.underlay.start()
            stack.push_async_callback(side.underlay.close)
            return side

        yield opened


def train_of(packets: int, last_bytes: int = WIRE_BYTES) -> Train:
    data = b"".join(bytes((index % 251,)) * WIRE_BYTES for index in range(packets - 1))
    return Train(data + b"\xff" * last_bytes, WIRE_BYTES if packets > 1 else last_bytes)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("sends_fast", [True, False])
@pytest.mark.parametrize("receives_fast", [True, False])
async def test_trains_arrive_packet_by_packet_as_sent(
    start: Start, host: str, sends_fast: bool, receives_fast: bool
) -> None:
    a, b = await start(use_offload=sends_fast), await start(use_offload=receives_fast)
    if host == "[::1]" and not b.underlay.has_ipv6:
        pytest.skip("no IPv6 here")
    sent = train_of(49, last_bytes=100)
    a.underlay.send(b.at(host), PEER, sent)
    assert await b.expect(49) == [bytes(packet) for packet in sent]
    assert {path for _, path in b.trains} == {a.at(host)}


async def test_consecutive_loads_of_one_sender_are_one_long_train(start: Start) -> None:
    a, b = await start(), await start()
    sent = train_of(4 * 49)
    a.underlay.send(b.at("127.0.0.1"), PEER, sent)
    assert await b.expect(4 * 49) == [bytes(packet) for packet in sent]
    assert b.trains == [(4 * 49, a.at("127.0.0.1"))]


async def test_senders_and_sizes_are_kept_apart(start: Start) -> None:
    a, b, c = await start(), await start(), await start()
    there = c.at("127.0.0.1")
    for index in range(12):  # more than one wake-up takes
        for side in (a, b):
            side.underlay.send(there, PEER, train_of(3 + index, last_bytes=100 + index))
    packets = 2 * sum(3 + index for index in range(12))
    await c.expect(packets)
    for side in (a, b):
        mine = [count for count, path in c.trains if path == side.at("127.0.0.1")]
        assert mine == [3 + index for index in range(12)]  # a shorter packet ends its train


async def test_single_datagrams_make_trains_too(start: Start) -> None:
    a, b = await start(use_offload=False), await start(use_offload=False)
    for size in (500, 500, 500, 20, 600, 600):
        a.underlay.send(b.at("127.0.0.1"), PEER, Train.of(bytes(size)))
    await b.expect(6)
    assert [len(packet) for packet in b.packets] == [500, 500, 500, 20, 600, 600]
    assert [count for count, _ in b.trains] == [4, 2]


async def test_one_call_carries_a_whole_train(start: Start) -> None:
    a, b = await start(), await start()
    a.underlay.send(b.at("127.0.0.1"), PEER, train_of(49))
    await b.expect(49)
    if not any(isinstance(event, SegmentationOffloadRefused) for event in a.events):
        assert len(b.trains) < 10


@pytest.mark.parametrize(("packets", "size"), [(200, 100), (60, WIRE_BYTES), (9, 9000)])
async def test_trains_that_no_call_can_take_are_split(start: Start, packets: int, size: int) -> None:
    a, b = await start(), await start()
    sent = Train(b"".join(bytes((index,)) * size for index in range(packets)), size)
    a.underlay.send(b.at("127.0.0.1"), PEER, sent)
    assert await b.expect(packets) == [bytes(packet) for packet in sent]


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.EMSGSIZE])
async def test_a_refused_segmentation_falls_back_for_good_and_is_told_once(start: Start, number: int) -> None:
    network = StubbornNetwork(lambda name: OSError(number, "no") if name == "sendmsg" else None)
    a, b = await start(network), await start()
    if not a.underlay._udp4.can_segment:
        pytest.skip("no UDP_SEGMENT here")
    for _ in range(2):
        a.underlay.send(b.at("127.0.0.1"), PEER, train_of(10))
    assert len(await b.expect(20)) == 20
    assert sum(isinstance(event, SegmentationOffloadRefused) for event in a.events) == 1


async def test_what_finds_no_room_waits_a_little_and_then_is_dropped(start: Start) -> None:
    is_full = [True]
    a = await start(StubbornNetwork(lambda name: BlockingIOError() if is_full[0] else None))
    b = await start()
    for _ in range(10):
        a.underlay.send(b.at("127.0.0.1"), PEER, train_of(49))
    counters = a.underlay.snapshot().udp4
    assert counters.dropped_full > 0
    kept = 490 - counters.dropped_full
    assert kept > 0
    is_full[0] = False
    assert len(await b.expect(kept)) == kept


async def test_unreachable_addresses_are_told(start: Start) -> None:
    a = await start(StubbornNetwork(lambda name: OSError(errno.EHOSTUNREACH, "No route")))
    endpoint = Endpoint.parse("192.0.2.1:9")
    for _ in range(3):
        a.underlay.send(Direct(endpoint), PEER, train_of(1))
    told = EndpointUnreachable(PEER, endpoint, "No route")
    assert told not in a.events  # not in the middle of sending
    await asyncio.sleep(0)
    assert a.events.count(told) == 1
    assert not a.underlay.send_datagram(endpoint, b"stun")
    assert a.underlay.snapshot().udp4.dropped_refused == 4


async def test_both_families_share_a_port_and_are_told(start: Start) -> None:
    a = await start()
    bound = [event for event in a.events if isinstance(event, UdpBound)]
    assert bound[0].port == a.underlay.port
    assert {endpoint.port for endpoint in a.underlay.local_endpoints()} <= {event.port for event in bound}
    assert a.at("127.0.0.1").endpoint in a.underlay.local_endpoints()


async def test_a_taken_port_is_replaced_by_a_free_one(start: Start) -> None:
    a = await start()
    b = Side(HostNetwork())
    await b.underlay.start(a.underlay.port)
    assert b.underlay.port not in (0, a.underlay.port)
    await b.underlay.close()


async def test_ipv6_may_be_missing(start: Start) -> None:
    class Ipv4Only(HostNetwork):
        def open_udp(self, family: socket.AddressFamily, port: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "no such family")
            return super().open_udp(family, port)

    a = await start(Ipv4Only())
    assert not a.underlay.has_ipv6
    assert UdpUnavailable(6, "no such family") in a.events
    a.underlay.send(Direct(Endpoint.parse("[::1]:9")), PEER, train_of(3))
    assert a.underlay.snapshot().unroutable_packets == 3


async def test_rebinding_keeps_the_port(start: Start) -> None:
    a, b = await start(), await start()
    port = a.underlay.port
    await a.underlay.rebind()
    assert a.underlay.port == port
    b.underlay.send(a.at("127.0.0.1"), PEER, train_of(2))
    await a.expect(2)


async def test_packets_for_an_unknown_region_are_counted(start: Start) -> None:
    a = await start()
    a.underlay.send(Relayed(77), PEER, train_of(3))
    assert a.underlay.snapshot().unroutable_packets == 3


async def test_close_is_harmless_twice_and_ends_everything(start: Start) -> None:
    a = await start()
    await a.underlay.close()
    await a.underlay.close()
    a.underlay.send(Direct(Endpoint.parse("127.0.0.1:9")), PEER, train_of(1))
    assert a.underlay.port == 0
    assert a.underlay.local_endpoints() == ()


async def test_with_relays_only_nothing_goes_to_peers_directly_but_stun_does(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = await start()
    monkeypatch.setenv("TS_DEBUG_ALWAYS_USE_DERP", "1")
    a = await start()
    a.underlay.send(b.at("127.0.0.1"), PEER, train_of(3))
    assert a.underlay.send_datagram(b.at("127.0.0.1").endpoint, b"stun")
    assert await b.expect(1) == [b"stun"]
    assert a.underlay.snapshot().unroutable_packets == 3
