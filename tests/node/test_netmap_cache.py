"""The netmap on disk: what went in comes out, and what is not ours is nothing."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as change

from tailbox.node.core.netmap import Netmap
from tailbox.node.netmap_cache import FILE_NAME, NetmapCache
from tailbox.wire.control.derp_map import DERPMap, DERPNode, DERPRegion
from tailbox.wire.control.dns import DNSConfig
from tailbox.wire.control.filter import FilterRule, NetPortRange, PortRange
from tailbox.wire.control.node import Node, UserProfile
from tailbox.wire.keys import DiscoPublicKey, NodePublicKey

SERVER, KEY = "https://coord.example", NodePublicKey(b"\x01" * 32)
NOW = 2_000_000_000.0


def node(number: int) -> Node:
    return Node(
        id=number,
        name=f"n{number}.example.net.",
        key=NodePublicKey(bytes([number]) * 32),
        disco_key=DiscoPublicKey(bytes([number + 9]) * 32),
        addresses=(f"100.64.0.{number}/32",),
        endpoints=(f"192.0.2.{number}:1",),
        home_derp=1,
        online=True,
        user=7,
    )


RELAY = DERPNode(name="1a", region_id=1, host_name="relay.example")
REGION = DERPRegion(region_id=1, region_code="r", region_name="R", nodes=(RELAY,))
NETMAP = Netmap(
    node(1),
    {2: node(2), 3: node(3)},
    derp_map=DERPMap(regions={1: REGION}),
    dns=DNSConfig(proxied=True, domains=("example.net",)),
    domain="example.net",
    users={7: UserProfile(id=7, login_name="u@example.net")},
    rules=(FilterRule(src_ips=("*",), dst_ports=(NetPortRange(ip="*", ports=PortRange(first=0, last=9)),)),),
    clock_skew_s=90.0,
)


def test_what_was_saved_is_loaded_with_nobody_online(tmp_path: Path) -> None:
    cache = NetmapCache(tmp_path, SERVER)
    cache.save(NETMAP)
    offline = {number: change(peer, online=None) for number, peer in NETMAP.peers.items()}
    assert cache.load(KEY, now_unix_s=NOW) == replace(NETMAP, peers=offline)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert b"privkey" not in (tmp_path / FILE_NAME).read_bytes()
    cache.remove()
    assert cache.load(KEY, now_unix_s=NOW) is None
    cache.remove()


def test_another_login_is_no_netmap(tmp_path: Path) -> None:
    NetmapCache(tmp_path, SERVER).save(NETMAP)
    assert NetmapCache(tmp_path, "https://other.example").load(KEY, now_unix_s=NOW) is None
    assert NetmapCache(tmp_path, SERVER).load(NodePublicKey(b"\x05" * 32), now_unix_s=NOW) is None
    assert NetmapCache(None, SERVER).load(KEY, now_unix_s=NOW) is None
    NetmapCache(None, SERVER).save(NETMAP)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"Schema":1', b'"Schema":2'),
        lambda data: b"[1,2]",
        lambda data: b"\xff\xfe",
        lambda data: b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_no_netmap(tmp_path: Path, damage: object) -> None:
    cache = NetmapCache(tmp_path, SERVER)
    cache.save(NETMAP)
    file = tmp_path / FILE_NAME
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]  # a parametrised lambda
    assert cache.load(KEY, now_unix_s=NOW) is None
