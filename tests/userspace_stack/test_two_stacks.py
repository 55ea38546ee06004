"""Two stacks back to back over a bad network: streams arrive whole, and connections end."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailbox.userspace_stack.stack import State, TcpSocket
from tests.userspace_stack.conftest import Impairment, Wire, make_wire, open_pair


@dataclass
class End:
    """One application: writes all of `data`, shuts down, reads until the end."""

    socket: TcpSocket
    data: bytes
    sent: int = 0
    received: bytes = b""

    def step(self) -> None:
        if self.sent < len(self.data) and self.socket.takes_data:
            self.sent += self.socket.write(self.data[self.sent :])
        if self.sent == len(self.data):
            self.socket.shutdown()
        self.received += self.socket.read(1 << 20)


def exchange(wire: Wire, client: TcpSocket, server: TcpSocket, there: bytes, back: bytes) -> tuple[bytes, bytes]:
    """Send both streams at once, close both, and return what arrived at client and server."""
    ends = End(client, there), End(server, back)

    def step() -> bool:
        for end in ends:
            end.step()
        wire.settle()
        return client.at_eof and server.at_eof

    done = wire.run(step, for_s=3600.0)
    assert done, f"stuck at {wire.now}: {client} {server} {wire.left.snapshot()} {wire.right.snapshot()}"
    return ends[0].received, ends[1].received


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30),
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.2]),
    duplication=st.sampled_from([0.0, 0.1]),
    reordering=st.sampled_from([0.0, 0.1, 0.5]),
    sizes=st.tuples(st.integers(0, 200_000), st.integers(0, 50_000)),
    whole_trains=st.booleans(),
    version=st.sampled_from([4, 6]),
)
def test_streams_survive_loss_reordering_and_duplication(
    seed: int,
    loss: float,
    duplication: float,
    reordering: float,
    sizes: tuple[int, int],
    whole_trains: bool,
    version: int,
) -> None:
    wire = make_wire(version, Impairment(loss, duplication, reordering, whole_trains=whole_trains), seed=seed)
    client, server, _ = open_pair(wire, version=version)
    source = random.Random(seed)
    there, back = source.randbytes(sizes[0]), source.randbytes(sizes[1])
    client_got, server_got = exchange(wire, client, server, there, back)
    assert server_got == there
    assert client_got == back
    assert client.error is None
    assert server.error is None
    wire.run(lambda: client.state is State.CLOSED and server.state is State.CLOSED, for_s=600)
    assert client.state is State.CLOSED
    assert server.state is State.CLOSED
    assert wire.left.snapshot().buffer_bytes == 0
    assert wire.right.snapshot().buffer_bytes == 0
    assert wire.left.next_deadline() is None
    assert wire.right.next_deadline() is None


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mtu", [576, 1280, 1281, 8192])
def test_bulk_through_trains_equals_the_stream(version: int, mtu: int) -> None:
    wire = make_wire(version, Impairment(whole_trains=True, delay_s=0.001), seed=mtu, mtu=mtu)
    client, server, _ = open_pair(wire, version=version)
    there, back = random.Random(1).randbytes(2_000_003), random.Random(2).randbytes(100_001)
    client_got, server_got = exchange(wire, client, server, there, back)
    assert server_got == there
    assert client_got == back
    assert not wire.left.drops
    assert not wire.right.drops
    assert max(map(len, wire.packets)) == mtu
