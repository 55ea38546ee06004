"""DNS messages: our answers are read back by dnspython, and nothing makes the decoder raise anything else."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed
from tailbox.wire.dns import (
    MAX_PLAIN_UDP_BYTES,
    Record,
    RecordType,
    ResponseCode,
    decode_query,
    encode_query,
    encode_response,
)

# `dig +noedns +norecurse beta.example.net`, DNS part of the captured datagram.
DIG_QUERY = bytes.fromhex("a1b2002000010000000000000462657461076578616d706c65036e65740000010001")


def test_a_query_of_dig_is_read() -> None:
    query = decode_query(DIG_QUERY)
    assert (query.name, query.type, query.max_udp_bytes) == ("beta.example.net", RecordType.A, MAX_PLAIN_UDP_BYTES)


def test_names_are_lower_cased() -> None:
    assert decode_query(encode_query("BeTa.Example.NET.", RecordType.AAAA, identifier=1)).name == "beta.example.net"


def test_an_answer_repeats_the_question_and_its_identifier() -> None:
    query = decode_query(DIG_QUERY)
    record = Record("beta.example.net", RecordType.A, 5, "100.64.0.2")
    answer = dns.message.from_wire(encode_response(query, ResponseCode.NO_ERROR, (record,)))
    assert answer.id == 0xA1B2
    assert answer.flags & dns.flags.AA
    assert [item.address for item in answer.answer[0]] == ["100.64.0.2"]


def test_absence_says_how_long_it_lasts() -> None:
    data = encode_response(
        decode_query(DIG_QUERY), ResponseCode.NAME_ERROR, authority_zone="example.net", negative_ttl_s=10
    )
    answer = dns.message.from_wire(data)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert answer.authority[0][0].minimum == 10


def test_what_does_not_fit_is_cut_and_says_so() -> None:
    records = tuple(Record("beta.example.net", RecordType.A, 5, f"100.64.{n // 256}.{n % 256}") for n in range(100))
    answer = encode_response(decode_query(DIG_QUERY), ResponseCode.NO_ERROR, records)
    assert len(answer) <= MAX_PLAIN_UDP_BYTES
    assert dns.message.from_wire(answer).flags & dns.flags.TC
    whole = encode_response(decode_query(DIG_QUERY), ResponseCode.NO_ERROR, records, over_udp=False)
    assert len(dns.message.from_wire(whole).answer[0]) == 100


def test_every_cut_is_malformed() -> None:
    for length in range(len(DIG_QUERY)):
        with pytest.raises(Malformed):
            decode_query(DIG_QUERY[:length])


@given(data=st.binary(max_size=120))
def test_random_bytes_are_malformed_or_a_query(data: bytes) -> None:
    try:
        decode_query(data)
    except Malformed:
        pass


@given(tail=st.binary(max_size=60))
def test_a_damaged_query_is_malformed_or_a_query(tail: bytes) -> None:
    try:
        decode_query(DIG_QUERY[:12] + tail)
    except Malformed:
        pass


def test_a_response_is_no_query() -> None:
    with pytest.raises(Malformed):
        decode_query(encode_response(decode_query(DIG_QUERY), ResponseCode.NO_ERROR))
