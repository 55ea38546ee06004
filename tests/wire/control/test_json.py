"""The habits of Go's encoding/json, in and out (control reference §0)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from tailbox.errors import Malformed
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.dns import DNSConfig, Resolver
from tailbox.wire.control.filter import ALLOW_ALL, FilterRule
from tailbox.wire.control.json import convert, decode, encode, go_name, to_builtins
from tailbox.wire.control.map import MapRequest, MapResponse, PeerChange
from tailbox.wire.control.node import Hostinfo, Node
from tailbox.wire.control.registration import RegisterAuth, RegisterRequest, RegisterResponse
from tailbox.wire.control.ssh import SSHPolicy
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import DiscoPublicKey, NodePublicKey

NODE_KEY = "nodekey:" + "1" * 64
ZERO_NODE_KEY = "nodekey:" + "0" * 64

# Control reference §6.4: the smallest first message that leads a real client to Running.
SMALLEST_MAP = f"""{{"Node":{{"ID":1,"StableID":"n1","Name":"a.example.net.","User":1,"Key":"{NODE_KEY}",
  "Addresses":["100.64.0.1/32","fd7a:115c:a1e0::1/128"],"MachineAuthorized":true}},
 "DERPMap":{{"Regions":{{"900":{{"RegionID":900,"RegionCode":"x","RegionName":"X",
   "Nodes":[{{"Name":"900a","RegionID":900,"HostName":"relay.example.net"}}]}}}}}}}}"""


def test_the_smallest_map_reads_and_writes_as_it_is() -> None:
    response = decode(MapResponse, SMALLEST_MAP.encode())
    assert response.node is not None
    assert response.node.key == NodePublicKey.parse(NODE_KEY)
    assert json.loads(encode(response)) == json.loads(SMALLEST_MAP)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("home_derp", "HomeDERP"),
        ("routable_ips", "RoutableIPs"),
        ("auth_url", "AuthURL"),
        ("nl_key", "NLKey"),
        ("ip_proto", "IPProto"),
        ("os_version", "OSVersion"),
        ("working_ipv6", "WorkingIPv6"),
        ("stun_port", "STUNPort"),
        ("is_wire_guard_only", "IsWireGuardOnly"),
        ("tka_head", "TKAHead"),
    ],
)
def test_names_are_those_of_go(field: str, name: str) -> None:
    assert go_name(field) == name


def test_names_match_whatever_their_case() -> None:
    # tailscale-rs sends HostInfo, RoutableIps, PreferredDerp: control reference §0
    request = decode(
        MapRequest,
        f'{{"nodekey":"{NODE_KEY}","HostInfo":{{"RoutableIps":["10.0.0.0/8"],"NetInfo":{{"PreferredDerp":7}}}}}}'.encode(),
    )
    assert request.hostinfo is not None
    assert request.hostinfo.net_info is not None
    assert request.hostinfo.routable_ips == ("10.0.0.0/8",)
    assert request.hostinfo.net_info.preferred_derp == 7


def test_null_is_absence_and_unknown_members_are_ignored() -> None:
    request = decode(MapRequest, f'{{"NodeKey":"{NODE_KEY}","Endpoints":null,"Hostinfo":null,"New":[1]}}'.encode())
    assert request == MapRequest(node_key=NodePublicKey.parse(NODE_KEY))
    assert request.endpoints is UNSET


def test_an_optional_zero_key_is_absent_and_a_required_one_is_missing() -> None:
    request = decode(
        RegisterRequest,
        f'{{"NodeKey":"{NODE_KEY}","OldNodeKey":"{ZERO_NODE_KEY}","NLKey":"nlpub:{"0" * 64}"}}'.encode(),
    )
    assert request.old_node_key is None
    assert request.nl_key is None


def test_an_empty_text_for_a_key_is_an_error_that_names_the_member() -> None:
    with pytest.raises(Malformed, match=r"\$\.NodeKey"):
        decode(RegisterRequest, b'{"NodeKey":""}')


def test_the_year_one_is_absent_except_where_it_means_never() -> None:
    zero = "0001-01-01T00:00:00Z"
    node = decode(Node, f'{{"ID":1,"Key":"{NODE_KEY}","KeyExpiry":"{zero}"}}'.encode())
    assert node.key_expiry is None
    patch = decode(PeerChange, f'{{"NodeID":1,"KeyExpiry":"{zero}"}}'.encode())
    assert patch.key_expiry == Timestamp.zero()
    assert zero.encode() in encode(patch)


def test_empty_lists_are_kept_apart_from_absent_ones() -> None:
    response = decode(MapResponse, b'{"PacketFilter":[],"Health":[]}')
    assert (response.packet_filter, response.health) == ((), ())
    assert encode(response) == b'{"PacketFilter":[],"Health":[]}'
    assert decode(MapResponse, b"{}").packet_filter is UNSET
    assert encode(PeerChange(node_id=1, endpoints=(), cap_map={})) == b'{"NodeID":1,"CapMap":{},"Endpoints":[]}'


def test_null_in_a_map_deletes_where_that_means_something() -> None:
    assert decode(MapResponse, b'{"PacketFilters":{"*":null,"base":[]}}').packet_filters == {"*": None, "base": ()}
    derp_map = decode(DERPMap, b'{"Regions":{"1":null,"2":{"RegionID":2}}}')
    assert derp_map.regions is not UNSET
    assert list(derp_map.regions) == [2]


def test_capability_values_are_kept_as_they_are() -> None:
    text = f'{{"ID":1,"Key":"{NODE_KEY}","CapMap":{{"a":null,"b":[],"c":[{{"x":null,"Y":[1.5]}}]}}}}'
    node = decode(Node, text.encode())
    assert node.cap_map == {"a": None, "b": (), "c": ({"x": None, "Y": [1.5]},)}
    assert json.loads(encode(node)) == json.loads(text)


def test_output_has_no_escapes_and_no_nulls() -> None:
    assert encode(Hostinfo(hostname="büro-é")) == '{"Hostname":"büro-é"}'.encode()
    assert encode(DNSConfig()) == b"{}"


def test_exceptions_of_spelling() -> None:
    assert encode(SSHPolicy()) == b'{"rules":[]}'
    assert encode(DERPMap(omit_default_regions=True)) == b'{"omitDefaultRegions":true}'
    assert encode(Hostinfo(ssh_host_keys=("k",))) == b'{"sshHostKeys":["k"]}'
    assert encode(DNSConfig(routes={"corp.": ()})) == b'{"Routes":{"corp.":[]}}'
    assert decode(SSHPolicy, b'{"rules":null}') == SSHPolicy()


def test_a_register_response_has_every_member_that_the_strict_client_wants() -> None:
    # tailscale-rs demands all of them: control reference §5.1
    answer = json.loads(encode(RegisterResponse()))
    assert set(answer) == {"User", "Login", "NodeKeyExpired", "MachineAuthorized", "AuthURL", "Error"}
    assert set(answer["Login"]) >= {"ID", "Provider", "LoginName"}


def test_allow_all_is_upstreams_form_and_sources_are_never_left_out() -> None:
    assert json.loads(encode(ALLOW_ALL)) == [
        {"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}
    ]
    assert encode(FilterRule()) == b'{"SrcIPs":[]}'


def test_an_auth_key_is_not_in_the_repr() -> None:
    request = RegisterRequest(node_key=NodePublicKey.parse(NODE_KEY), auth=RegisterAuth(auth_key="tskey-secret"))
    assert "tskey-secret" not in repr(request)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 5000, b'{"Node":[]}', b'{"Peers":{}}'])
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(MapResponse, data)


def test_a_message_cut_anywhere_is_malformed() -> None:
    data = encode(decode(MapResponse, SMALLEST_MAP.encode()))
    for length in range(len(data)):
        with pytest.raises(Malformed):
            decode(MapResponse, data[:length])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Node", "node", "Peers", "ID", "Key", "DERPMap", "Regions", "1"]), inner)
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_a_message_or_malformed(value: object) -> None:
    try:
        convert(MapResponse, value)
    except Malformed:
        pass


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for kind in (MapResponse, MapRequest, RegisterRequest):
        try:
            decode(kind, data)
        except Malformed:
            pass


names = st.text(max_size=10)
keys = st.binary(min_size=32, max_size=32).filter(any)
nodes = st.builds(
    Node,
    id=st.integers(1, 2**53 - 1),
    stable_id=names,
    name=names,
    key=keys.map(NodePublicKey),
    disco_key=st.none() | keys.map(DiscoPublicKey),
    key_expiry=st.none() | st.integers(0, 10**18).map(Timestamp),
    endpoints=st.just(UNSET) | st.just(()) | st.just(("192.0.2.1:1",)),
    allowed_ips=st.just(UNSET) | st.just(()),
    online=st.none() | st.booleans(),
    hostinfo=st.none() | st.builds(Hostinfo, hostname=names, routable_ips=st.just(()) | st.just(("10.0.0.0/8",))),
    cap_map=st.dictionaries(names, st.none() | st.just(()) | st.just((1, "x"))),
)
responses = st.builds(
    MapResponse,
    node=st.none() | nodes,
    peers=st.lists(nodes, max_size=3).map(tuple),
    peers_removed=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    online_change=st.dictionaries(st.integers(1, 9), st.booleans()),
    packet_filter=st.just(UNSET) | st.just(()) | st.just(ALLOW_ALL),
    packet_filters=st.dictionaries(names, st.none() | st.just(()) | st.just(ALLOW_ALL)),
    dns_config=st.none()
    | st.builds(DNSConfig, resolvers=st.just((Resolver(addr="192.0.2.53"),)), proxied=st.booleans()),
    control_time=st.none() | st.integers(0, 10**18).map(Timestamp),
)


@given(responses)
def test_messages_round_trip(response: MapResponse) -> None:
    assert decode(MapResponse, encode(response)) == response
    assert convert(MapResponse, to_builtins(response)) == response
