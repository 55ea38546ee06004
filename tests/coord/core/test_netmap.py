"""What a viewer sees."""

from __future__ import annotations

import json
from functools import partial

import msgspec

from tailbox.coord.core.access import Access
from tailbox.coord.core.checkin import check_in
from tailbox.coord.core.devices import authorize_device, rename_device, set_device_routes, tag_device
from tailbox.coord.core.netmap import Cartographer, netmap
from tailbox.coord.core.presence import close_session, open_session
from tailbox.coord.core.records import DnsSettings, TailnetNode
from tailbox.coord.core.settings import set_dns
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.json import encode
from tailbox.wire.control.map import MapRequest, MapResponse
from tailbox.wire.control.node import Hostinfo, NetInfo, Service
from tailbox.wire.keys import DiscoPublicKey
from tests.coord.core.world import World, key, machine

DERP_MAP = DERPMap(regions={})


def view(world: World, viewer: int) -> MapResponse:
    return netmap(world.tailnet, viewer, derp_map=DERP_MAP, now_unix_s=world.now)


def test_a_first_message_has_all_that_a_client_needs(world: World) -> None:
    world.enrolled(1)
    world.enrolled(2)
    sent = json.loads(encode(view(world, 1)))
    assert sent["Node"]["Name"] == "host.tailnet.internal."
    assert sent["Node"]["Addresses"] == ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]
    assert sent["Node"]["MachineAuthorized"] is True
    assert sent["PacketFilters"]["base"][0]["SrcIPs"] == ["*"]
    assert sent["Debug"] == {"DisableLogTail": True}
    assert sent["CollectServices"] is False
    assert sent["Domain"] == "tailnet.internal"
    assert sent["DNSConfig"]["Proxied"] is True
    assert sent["UserProfiles"] == [{"ID": 1, "LoginName": "alice@example.com", "DisplayName": "alice@example.com"}]
    assert [peer["ID"] for peer in sent["Peers"]] == [2]
    assert sent["Peers"][0]["Endpoints"] == []
    assert sent["Peers"][0]["Online"] is False


def test_a_peer_shows_what_reaching_it_takes(world: World) -> None:
    world.enrolled(1)
    world.enrolled(2)
    hostinfo = Hostinfo(
        os="linux",
        hostname="web",
        backend_log_id="private",
        net_info=NetInfo(preferred_derp=7),
        services=(Service(proto="peerapi4", port=1), Service(proto="tcp", port=22)),
    )
    request = MapRequest(
        version=145, node_key=key(2), disco_key=DiscoPublicKey(b"d" * 32), endpoints=("192.0.2.1:1",),
        hostinfo=hostinfo, omit_peers=True,
    )  # fmt: skip
    world.do(partial(check_in, request=request, machine_key=machine(2)))
    peer = view(world, 1).peers[0]
    assert (peer.home_derp, peer.cap, peer.endpoints) == (7, 145, ("192.0.2.1:1",))
    assert peer.disco_key == DiscoPublicKey(b"d" * 32)
    assert peer.hostinfo == Hostinfo(os="linux", hostname="web", services=(Service(proto="peerapi4", port=1),))
    assert peer.machine is None


def test_presence_and_last_seen_exclude_each_other(world: World) -> None:
    world.enrolled(1)
    world.enrolled(2)
    assert view(world, 1).peers[0].last_seen is not None
    world.do(partial(open_session, node_id=2))
    assert (view(world, 1).peers[0].online, view(world, 1).peers[0].last_seen) == (True, None)
    world.do(partial(close_session, node_id=2))
    assert view(world, 1).peers[0].online is True


def test_an_unauthorised_node_sees_and_is_seen_by_nobody(world: World) -> None:
    world.enrolled(1)
    world.enrolled(2)
    world.do(partial(authorize_device, node_id=2, is_authorized=False))
    assert view(world, 1).peers == ()
    mine = view(world, 2)
    assert mine.peers == ()
    assert mine.node is not None
    assert not mine.node.machine_authorized


def test_routes_appear_once_announced_and_approved(world: World) -> None:
    world.enrolled(1)
    for number in (2, 3):
        world.enrolled(number)
        routes = ("10.0.0.0/24", "0.0.0.0/0", "::/0")
        request = MapRequest(node_key=key(number), omit_peers=True, hostinfo=Hostinfo(routable_ips=routes))
        world.do(partial(check_in, request=request, machine_key=machine(number)))
    assert view(world, 1).peers[0].effective_allowed_ips == view(world, 1).peers[0].addresses
    world.do(partial(set_device_routes, node_id=2, routes=("10.0.0.0/24", "192.168.0.0/16", "0.0.0.0/0")))
    world.do(partial(set_device_routes, node_id=3, routes=("10.0.0.0/24",)))
    first, second = view(world, 1).peers
    assert first.primary_routes == ("10.0.0.0/24",)
    assert first.effective_allowed_ips == (*first.addresses, "10.0.0.0/24", "0.0.0.0/0", "::/0")
    assert second.primary_routes == ()
    world.do(partial(open_session, node_id=3))  # the first is offline
    first, second = view(world, 1).peers
    assert (first.primary_routes, second.primary_routes) == ((), ("10.0.0.0/24",))


def test_a_tagged_peer_belongs_to_the_pseudo_user(world: World) -> None:
    world.enrolled(1)
    world.enrolled(2)
    world.do(partial(tag_device, node_id=2, tags=("tag:web",)))
    seen = view(world, 1)
    assert seen.peers[0].tags == ("tag:web",)
    assert seen.peers[0].key_expiry is None
    assert {profile.login_name for profile in seen.user_profiles} == {"alice@example.com", "tagged-devices"}
    assert seen.peers[0].user in {profile.id for profile in seen.user_profiles}


def test_name_servers_override_or_fall_back(world: World) -> None:
    world.enrolled(1)
    dns = DnsSettings(nameservers=("192.0.2.53",), split_dns={"corp.": ("192.0.2.54",)}, search_paths=("corp",))
    world.do(partial(set_dns, dns=dns))
    fallback = view(world, 1).dns_config
    world.do(partial(set_dns, dns=msgspec.structs.replace(dns, is_override_local=True)))
    override = view(world, 1).dns_config
    assert fallback is not None
    assert override is not None
    assert ([r.addr for r in fallback.fallback_resolvers], fallback.resolvers) == (["192.0.2.53"], ())
    assert ([r.addr for r in override.resolvers], override.fallback_resolvers) == (["192.0.2.53"], ())
    assert override.domains == ("tailnet.internal", "corp")


def test_old_clients_get_the_legacy_home(world: World) -> None:
    world.enrolled(1)
    world.enrolled(2)
    info = Hostinfo(net_info=NetInfo(preferred_derp=9))
    for number, version in ((1, 106), (2, 145)):
        request = MapRequest(version=version, node_key=key(number), omit_peers=True, hostinfo=info)
        world.do(partial(check_in, request=request, machine_key=machine(number)))
    assert view(world, 1).peers[0].legacy_derp_string == "127.3.3.40:9"
    assert view(world, 2).peers[0].legacy_derp_string == ""


def test_the_policy_decides_filter_sight_and_capabilities(world: World) -> None:
    for number in (1, 2, 3):
        world.enrolled(number)

    def rules(tailnet: Tailnet, viewer: TailnetNode) -> Access:
        return Access(
            packet_filter=(), is_visible=lambda peer: peer.id == 3, capabilities={"x": ()},
            peer_capabilities={3: {"suggest-exit-node": None}},
        )  # fmt: skip

    seen = netmap(world.tailnet, 1, derp_map=DERP_MAP, now_unix_s=world.now, rules=rules)
    assert seen.packet_filters == {"base": ()}
    assert [peer.id for peer in seen.peers] == [3]
    assert seen.peers[0].cap_map == {"suggest-exit-node": None}
    assert seen.node is not None
    assert seen.node.cap_map["x"] == ()


def test_a_cartographer_draws_only_what_has_changed(world: World) -> None:
    for number in (1, 2, 3):
        world.enrolled(number)
    cartographer = Cartographer(derp_map=DERP_MAP)
    before = cartographer.netmap(world.tailnet, 1, now_unix_s=world.now)
    world.do(partial(open_session, node_id=3))
    after = cartographer.netmap(world.tailnet, 1, now_unix_s=world.now)
    assert after.peers[0] is before.peers[0]
    assert after.peers[1] is not before.peers[1]
    assert after == view(world, 1)


def test_what_viewers_share_is_what_each_would_be_drawn_alone(world: World) -> None:
    """One cartographer over several snapshots, for viewers with and without limits, against maps drawn from nothing."""
    for number in range(1, 6):
        world.enrolled(number, tags=("tag:web",) if number == 4 else ())
    world.do(partial(authorize_device, node_id=5, is_authorized=False))

    def rules(tailnet: Tailnet, viewer: TailnetNode) -> Access:
        return Access(is_visible=lambda peer: peer.id != 1) if viewer.id == 2 else Access()

    cartographer = Cartographer(derp_map=DERP_MAP, rules=rules)
    for name in ("first", "second"):
        world.do(partial(rename_device, node_id=3, name=name))
        for viewer in range(1, 6):
            shared = cartographer.netmap(world.tailnet, viewer, now_unix_s=world.now)
            alone = netmap(world.tailnet, viewer, derp_map=DERP_MAP, now_unix_s=world.now, rules=rules)
            assert shared == alone
    peers = {viewer: [peer.id for peer in view(world, viewer).peers] for viewer in (1, 4, 5)}
    assert peers == {1: [2, 3, 4], 4: [1, 2, 3], 5: []}
