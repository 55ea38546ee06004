"""Upstream's JSON shapes: members that the real command line reads."""

from __future__ import annotations

from tailbox.node.core.status import BackendState, NodeStatus, PeerStatus, PingResult, WhoIs, node_json
from tailbox.wire.control.node import Hostinfo, Node, UserProfile
from tailbox.wire.keys import NodePublicKey

KEY = NodePublicKey(b"\x01" * 32)
NODE = Node(
    id=7,
    stable_id="n7",
    name="beta.example.net.",
    user=1,
    key=KEY,
    addresses=("100.64.0.2/32", "fd7a:115c:a1e0::2/128"),
    hostinfo=Hostinfo(hostname="Beta", os="linux"),
)
PEER = PeerStatus(NODE, current_address="192.0.2.1:1", relay="home", is_online=True)


def test_states_have_upstreams_names() -> None:
    assert [state.text for state in BackendState] == [
        "NoState", "InUseOtherUser", "NeedsLogin", "NeedsMachineAuth", "Stopped", "Starting", "Running",
    ]  # fmt: skip


def test_a_peer() -> None:
    found = PEER.to_json()
    assert found["PublicKey"] == KEY.text
    assert found["HostName"] == "Beta"
    assert found["DNSName"] == "beta.example.net."
    assert found["TailscaleIPs"] == ["100.64.0.2", "fd7a:115c:a1e0::2"]
    assert found["CurAddr"] == "192.0.2.1:1"
    assert found["LastHandshake"] == "0001-01-01T00:00:00Z"
    assert "Tags" not in found


def test_before_the_first_netmap_self_is_still_there() -> None:
    status = NodeStatus("v", BackendState.NEEDS_LOGIN, None, NodePublicKey.zero(), hostname="alpha").to_json()
    assert isinstance(status["Self"], dict)
    assert status["Self"]["PublicKey"] == "nodekey:" + "0" * 64
    assert status["TailscaleIPs"] is None
    assert status["Peer"] is None
    assert "HaveNodeKey" not in status


def test_a_whole_status() -> None:
    user = UserProfile(id=1, login_name="user@example.net")
    status = NodeStatus(
        "v", BackendState.RUNNING, PEER, KEY, peers=(PEER,), users={1: user}, suffix="example.net", tailnet="t"
    )
    found = status.to_json()
    assert list(found["Peer"]) == [KEY.text]  # type: ignore[call-overload]
    assert found["User"]["1"]["LoginName"] == "user@example.net"  # type: ignore[index]
    assert found["CurrentTailnet"] == {"Name": "t", "MagicDNSSuffix": "example.net", "MagicDNSEnabled": False}
    assert status.to_json(with_peers=False)["Peer"] is None


def test_peers_are_found_by_any_name() -> None:
    status = NodeStatus("v", BackendState.RUNNING, None, KEY, peers=(PEER,))
    for wanted in ("beta", "BETA.example.net.", "100.64.0.2"):
        assert status.peer(wanted) is PEER
    assert status.peer("gamma") is None


def test_ping_results() -> None:
    direct = PingResult("100.64.0.2", node_name="beta", latency_s=0.001, endpoint="192.0.2.1:1")
    assert direct.is_direct
    assert direct.to_json()["LatencySeconds"] == 0.001
    assert PingResult("100.64.0.1", error="local", is_local=True).to_json()["IsLocalIP"] is True


def test_whois_has_a_complete_node() -> None:
    found = WhoIs(NODE, UserProfile(id=1), {}).to_json()
    assert found["CapMap"] is None
    node = node_json(NODE)
    assert node["ComputedName"] == "beta"
    assert node["AllowedIPs"] == ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"]
    assert found["Node"] == node
