"""The fast reading of heads equals the readable one, packet by packet and train by train."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.node.core.packet_head import PacketHead, address_of, flow_runs, read_head, shared_head
from tailbox.wire.ip import Protocol, build_packet, summarize
from tailbox.wire.train import Train

KNOWN = {protocol.value for protocol in Protocol}
V4, V6 = (ip_address("100.64.0.1"), ip_address("100.64.0.2")), (ip_address("fd7a::1"), ip_address("fd7a::2"))


def packet(*, version: int = 4, protocol: int = Protocol.TCP, body: bytes = bytes(20)) -> bytearray:
    source, destination = V4 if version == 4 else V6
    return bytearray(build_packet(source, destination, protocol, body))


def tcp(payload: bytes, *, flags: int = 0x10, version: int = 4, port: int = 80) -> bytearray:
    header = port.to_bytes(2, "big") + b"\x12\x34" + bytes(8) + b"\x50" + bytes((flags,)) + bytes(6)
    return packet(version=version, body=header + payload)


def same(data: bytes) -> bool:
    """Whether both readings agree. `summarize` calls protocols that it does not know unknown; the head keeps them."""
    head, summary = read_head(data), summarize(data)
    if head is None or summary is None:
        return head is None or head.protocol not in KNOWN or (head.protocol == Protocol.UNKNOWN and summary is None)
    flow = summary.flow
    return (
        head.protocol == flow.protocol
        and address_of(head.source) == flow.source.ip
        and address_of(head.destination) == flow.destination.ip
        and (head.source_port, head.destination_port) == (flow.source.port, flow.destination.port)
        and head.tcp_flags == summary.tcp_flags
        and (head.protocol == Protocol.FRAGMENT or head.transport_at == summary.header_bytes)
    )


@given(data=st.binary(max_size=80))
def test_random_bytes_read_alike(data: bytes) -> None:
    assert same(data)


@pytest.mark.parametrize("version", [4, 6])
def test_a_later_fragment_of_our_own_marker_is_nothing(version: int) -> None:
    data = packet(version=version, protocol=255 if version == 4 else 44, body=b"\xff\0\x08\0" + bytes(60))
    if version == 4:
        data[6] = 1
    assert read_head(bytes(data)) is None
    assert same(bytes(data))


@given(
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([1, 6, 17, 44, 58, 99, 132, 255]),
    body=st.binary(max_size=60),
    changes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
)
def test_damaged_packets_read_alike(version: int, protocol: int, body: bytes, changes: list[tuple[int, int]]) -> None:
    data = packet(version=version, protocol=protocol, body=body)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    assert same(bytes(data))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("last", [1200, 400, 0])
def test_a_train_of_one_flow_has_one_head(version: int, last: int) -> None:
    body = 1240 if version == 4 else 1220
    data = b"".join(bytes(tcp(bytes(body), version=version)) for _ in range(5))
    data += bytes(tcp(bytes(last), version=version)) if last else b""
    assert shared_head(Train(data, 1280)) == read_head(data[:1280])


CHANGES = {
    "another version": (0, 0x46),
    "a fragment": (6, 0x20),
    "another protocol": (9, 17),
    "another source": (15, 9),
    "another destination": (19, 9),
    "another source port": (21, 81),
    "another destination port": (23, 0x35),
    "a SYN": (33, 0x02),
    "a reset": (33, 0x04),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("row", [1, 3, 4])
def test_one_odd_packet_spoils_the_train(change: tuple[int, int], row: int) -> None:
    packets = [tcp(bytes(1240 if index < 4 else 100)) for index in range(5)]
    packets[row][change[0]] = change[1]
    assert shared_head(Train(b"".join(packets), 1280)) is None


def test_what_varies_within_a_flow_does_not_spoil_it() -> None:
    packets = [tcp(bytes(1240)) for _ in range(3)]
    packets[1][1] = 3  # congestion experienced
    packets[2][8] = 63  # hop limit
    packets[2][25] = 7  # sequence number
    assert shared_head(Train(b"".join(packets), 1280)) is not None


def test_a_train_of_several_flows_is_cut_where_they_change() -> None:
    flows = [3, 3, 3, 5, 5, 3, 7]
    packets = [tcp(bytes(1240)) for _ in flows]
    for packet_, port in zip(packets, flows, strict=True):
        packet_[21] = port
    packets[1][25] = 9  # another sequence number is no other flow
    short = bytes(tcp(bytes(100)))
    train = Train(b"".join(packets) + short, 1280)
    parts = flow_runs(train)
    assert [len(part) for part in parts] == [3, 2, 1, 1, 1]
    assert b"".join(bytes(part.data) for part in parts) == train.data
    assert all(shared_head(part) is not None for part in parts)


def test_a_train_of_one_flow_is_not_cut() -> None:
    train = Train(bytes(tcp(bytes(1240))) * 5, 1280)
    assert flow_runs(train) == (train,)
    assert flow_runs(Train.of(train.data[:1280])) == (Train.of(train.data[:1280]),)


@given(st.binary(min_size=1, max_size=1500), st.integers(1, 400))
def test_cutting_loses_nothing(data: bytes, stride: int) -> None:
    train = Train(data, min(stride, len(data)))
    parts = flow_runs(train)
    assert b"".join(bytes(part.data) for part in parts) == data
    assert [packet for part in parts for packet in part] == list(train)


def test_other_protocols_are_read_one_by_one() -> None:
    echo = bytes(packet(protocol=Protocol.ICMP, body=bytes(44)))
    assert shared_head(Train(echo * 2, len(echo))) is None
    assert shared_head(Train.of(echo)) == read_head(echo)


def test_a_head_can_be_shown() -> None:
    head = read_head(bytes(tcp(b"", flags=2)))
    assert isinstance(head, PacketHead)
    assert head.is_tcp_syn
    assert str(head) == "TCP 100.64.0.1:80 → 100.64.0.2:4660"
