"""STUN messages, against the vectors of RFC 5769 and some computed independently."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.errors import Malformed, WireError
from tailbox.wire.addresses import Endpoint
from tailbox.wire.stun import (
    BindingRequest,
    BindingResponse,
    answer_any,
    is_stun,
)

ID = bytes(range(1, 13))
REQUEST = bytes.fromhex("000100142112a4420102030405060708090a0b0c802200087461696c6e6f646580280004b32c370f")
RESPONSE_V4 = bytes.fromhex("0101000c2112a4420102030405060708090a0b0c00200008000183bb2a12a448")
RESPONSE_V6 = bytes.fromhex("010100182112a4420102030405060708090a0b0c00200014000283bb0b12a4420102030405060708090a0b0d")
RESPONSE_MAPPED = bytes.fromhex(
    "010100182112a4420102030405060708090a0b0c00200014000283bb2112a442010203040506f8f7020a0b06"
)
# RFC 5769 §2.1, §2.2, §2.3: software names, integrity and fingerprints of other programs.
RFC_REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b15"
    "1263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
RFC_RESPONSE_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599f"
    "d9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
RFC_RESPONSE_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5b"
    "ed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)


def test_request_vector() -> None:
    assert BindingRequest(ID).encode() == REQUEST
    assert BindingRequest.decode(REQUEST) == BindingRequest(ID)


@pytest.mark.parametrize(("wire", "endpoint"), [
    (RESPONSE_V4, "11.0.0.10:41641"),
    (RESPONSE_V6, "[2a00::1]:41641"),
])  # fmt: skip
def test_response_vectors(wire: bytes, endpoint: str) -> None:
    response = BindingResponse(ID, Endpoint.parse(endpoint))
    assert response.encode() == wire
    assert BindingResponse.decode(wire) == response


def test_ipv4_in_ipv6_clothes_is_read_and_never_written() -> None:
    assert BindingResponse.decode(RESPONSE_MAPPED).mapped == Endpoint.parse("11.0.0.10:41641")
    assert BindingResponse(ID, Endpoint.parse("[::ffff:11.0.0.10]:41641")).encode() == RESPONSE_V4


@pytest.mark.parametrize(("wire", "endpoint"), [
    (RFC_RESPONSE_V4, "192.0.2.1:32853"),
    (RFC_RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
])  # fmt: skip
def test_responses_of_rfc_5769(wire: bytes, endpoint: str) -> None:
    assert BindingResponse.decode(wire).mapped == Endpoint.parse(endpoint)


def test_a_strangers_request_is_refused() -> None:
    with pytest.raises(Malformed, match="another program"):
        BindingRequest.decode(RFC_REQUEST)


def test_plain_and_draft_addresses_are_read() -> None:
    plain = bytes.fromhex("0101000c2112a4420102030405060708090a0b0c000100080001a2a90b00000a")
    assert BindingResponse.decode(plain).mapped == Endpoint.parse("11.0.0.10:41641")
    draft = RESPONSE_V4[:20] + b"\x80\x20" + RESPONSE_V4[22:]
    assert BindingResponse.decode(draft).mapped == Endpoint.parse("11.0.0.10:41641")


def test_any_changed_bit_of_a_request_is_noticed() -> None:
    for position in range(8 * len(REQUEST)):
        changed = bytearray(REQUEST)
        changed[position // 8] ^= 1 << (position % 8)
        with pytest.raises(WireError):
            BindingRequest.decode(bytes(changed))


def test_fingerprint_must_come_last() -> None:
    request = bytearray(REQUEST + bytes.fromhex("80220000"))
    request[3] = 24
    with pytest.raises(WireError):
        BindingRequest.decode(bytes(request))


@pytest.mark.parametrize("wire", [REQUEST, RESPONSE_V4, RESPONSE_V6, RFC_RESPONSE_V6])
def test_truncation_at_every_length(wire: bytes) -> None:
    for length in range(len(wire)):
        for kind in (BindingRequest, BindingResponse):
            with pytest.raises(WireError):
                kind.decode(wire[:length])


def test_bytes_after_the_message_are_ignored() -> None:
    assert BindingResponse.decode(RESPONSE_V4 + b"more").mapped == Endpoint.parse("11.0.0.10:41641")


@settings(max_examples=100)
@given(st.binary(max_size=80), st.sampled_from([b"", REQUEST[:20], RESPONSE_V4[:20]]))
def test_random_bytes_give_wire_errors_only(data: bytes, head: bytes) -> None:
    for read in (
        BindingRequest.decode,
        BindingResponse.decode,
        lambda wire: answer_any(wire, Endpoint.parse("1.2.3.4:5")),
    ):
        try:
            read(head + data)
        except WireError:
            pass


@settings(max_examples=100)
@given(
    st.binary(min_size=12, max_size=12), st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65535)
)
def test_round_trip(transaction_id: bytes, ip: object, port: int) -> None:
    endpoint = Endpoint.parse(str(Endpoint(ip, port)))  # type: ignore[arg-type]
    decoded = BindingResponse.decode(BindingResponse(transaction_id, endpoint).encode())
    unmapped = getattr(endpoint.ip, "ipv4_mapped", None) or endpoint.ip
    assert decoded == BindingResponse(transaction_id, Endpoint(unmapped, port))
    request = BindingRequest(transaction_id)
    assert BindingRequest.decode(request.encode()) == request


def test_no_answer_is_more_than_four_bytes_longer_than_its_request() -> None:
    assert len(BindingRequest(ID).encode()) == 40
    assert len(RESPONSE_V4) == 32
    assert len(RESPONSE_V6) == 44


def test_open_servers_answer_the_old_kind_in_the_old_way() -> None:
    old = bytes.fromhex("00010000") + bytes(range(16))
    answer = answer_any(old, Endpoint.parse("11.0.0.10:41641"))
    assert answer == bytes.fromhex("0101000c") + bytes(range(16)) + bytes.fromhex("000100080001a2a90b00000a")
    assert answer_any(RFC_REQUEST, Endpoint.parse("192.0.2.1:32853"))[20:32] == RFC_RESPONSE_V4[36:48]


@pytest.mark.parametrize("wire", [b"", bytes(20), RESPONSE_V4, REQUEST + b"x", bytes.fromhex("00010004") + bytes(20)])
def test_open_servers_answer_binding_requests_only(wire: bytes) -> None:
    if wire == bytes.fromhex("00010004") + bytes(20):
        assert answer_any(wire, Endpoint.parse("1.2.3.4:5"))  # an empty attribute is well-formed
        return
    with pytest.raises(WireError):
        answer_any(wire, Endpoint.parse("1.2.3.4:5"))


def test_the_shape_of_stun() -> None:
    assert is_stun(REQUEST)
    assert is_stun(memoryview(RESPONSE_V4))
    assert not is_stun(REQUEST[:19])
    assert not is_stun(b"\x40" + REQUEST[1:])
    assert not is_stun(b"TS\xf0\x9f\x92\xac" + bytes(40))
