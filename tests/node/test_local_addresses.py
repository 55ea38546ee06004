from __future__ import annotations

import pytest

from tailbox.node.local_addresses import usable_addresses
from tailbox.runtime.network import InterfaceAddress
from tailbox.wire.addresses import parse_ip


@pytest.mark.parametrize(
    ("found", "with_loopback", "wanted"),
    [
        (["127.0.0.1", "::1"], False, ["127.0.0.1", "::1"]),
        (["127.0.0.1", "192.168.1.2", "::1"], False, ["192.168.1.2"]),
        (["127.0.0.1", "192.168.1.2", "::1"], True, ["192.168.1.2", "127.0.0.1", "::1"]),
        (["127.0.0.1", "169.254.3.4"], False, ["169.254.3.4"]),
        (["169.254.3.4", "192.168.1.2"], False, ["192.168.1.2"]),
        (["fe80::1", "2001:db8::1"], False, ["2001:db8::1"]),
        (["100.100.1.1", "fd7a:115c:a1e0::5", "10.0.0.1"], False, ["10.0.0.1"]),
        (["100.115.92.5"], False, ["100.115.92.5"]),
        (["2001:db8::1", "2001:db8::2", "2001:db8::3", "fd00::1"], False, ["2001:db8::1", "2001:db8::2", "fd00::1"]),
        ([], True, []),
    ],
)
def test_addresses_worth_telling(found: list[str], with_loopback: bool, wanted: list[str]) -> None:
    addresses = [InterfaceAddress("eth0", parse_ip(text)) for text in found]
    assert [str(ip) for ip in usable_addresses(addresses, include_loopback=with_loopback)] == wanted
