"""DNS messages, the subset MagicDNS needs: one question in, answers or a response code out.

A thin layer over dnspython, which does the encoding. Source: RFC 1035, RFC 2308 (negative answers), RFC 6891 (EDNS).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tailbox.errors import Malformed

MAX_PLAIN_UDP_BYTES = 512  # RFC 1035 §4.2.1, without EDNS
MAX_UDP_BYTES = 1232  # ours: fits one packet at the tunnel's MTU of 1280


class ResponseCode(IntEnum):
    """RFC 1035 §4.1.1."""

    NO_ERROR = 0
    FORMAT_ERROR = 1
    SERVER_FAILURE = 2
    NAME_ERROR = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5


class RecordType(IntEnum):
    """Types that are answered or told apart; any other number passes through."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    AAAA = 28
    AXFR = 252
    ANY = 255


@dataclass(frozen=True, slots=True)
class Query:
    """One question of class IN."""

    name: str  # lower case, without the trailing dot; "" is the root
    type: int
    max_udp_bytes: int = MAX_PLAIN_UDP_BYTES
    message: dns.message.Message | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an answer; `value` is the text form (an address, a name)."""

    name: str
    type: RecordType
    ttl_s: int
    value: str


def decode_query(data: bytes) -> Query:
    """Raises Malformed for anything but one question of class IN in a query message."""
    try:
        message = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError, IndexError) as error:
        raise Malformed(f"DNS query: {type(error).__name__}") from None
    if message.flags & dns.flags.QR or len(message.question) != 1:
        raise Malformed("DNS query: wanted one question")
    question = message.question[0]
    if question.rdclass != dns.rdataclass.IN:
        raise Malformed("DNS query: class is not IN")
    limit = min(max(message.payload, MAX_PLAIN_UDP_BYTES), MAX_UDP_BYTES) if message.edns >= 0 else MAX_PLAIN_UDP_BYTES
    name = question.name.to_text(omit_final_dot=True).lower()
    return Query("" if name == "@" or name == "." else name, int(question.rdtype), limit, message)


def encode_query(name: str, record_type: RecordType, *, identifier: int) -> bytes:
    """A recursive query, for tests and our own look-ups."""
    message = dns.message.make_query(_absolute(name), dns.rdatatype.RdataType(int(record_type)), id=identifier)
    return bytes(message.to_wire())


def encode_response(
    query: Query,
    code: ResponseCode,
    answers: tuple[Record, ...] = (),
    *,
    authority_zone: str = "",
    negative_ttl_s: int = 0,
    over_udp: bool = True,
) -> bytes:
    """The answer to a decoded query. With `authority_zone` a SOA says how long its absence may be remembered.

    An answer that does not fit the client's UDP limit is cut, with TC set.
    """
    assert query.message is not None, "a query that was never decoded has no answer"
    response = dns.message.make_response(query.message, recursion_available=True)
    response.flags |= dns.flags.AA
    response.set_rcode(dns.rcode.Rcode(int(code)))
    for record in answers:
        response.answer.append(_rrset(record.name, record.ttl_s, record.type, record.value))
    if authority_zone:
        soa = f"{authority_zone}. {authority_zone}. 1 3600 600 86400 {negative_ttl_s}"
        response.authority.append(_rrset(authority_zone, negative_ttl_s, RecordType.SOA, soa))
    if not over_udp:
        return bytes(response.to_wire(max_size=65535))
    try:
        return bytes(response.to_wire(max_size=query.max_udp_bytes))
    except dns.exception.TooBig:
        response.answer.clear()
        response.authority.clear()
        response.flags |= dns.flags.TC
        return bytes(response.to_wire(max_size=query.max_udp_bytes))


def _rrset(name: str, ttl_s: int, record_type: RecordType, value: str) -> dns.rrset.RRset:
    text = _absolute(value).to_text() if record_type is RecordType.PTR else value
    return dns.rrset.from_text(
        _absolute(name), ttl_s, dns.rdataclass.IN, dns.rdatatype.RdataType(int(record_type)), text
    )


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name.rstrip(".") + ".")
