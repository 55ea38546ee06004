"""`status`, `ip`, `whois` over a LocalAPI of canned answers, in upstream's layout."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tailbox.cli.local_client import LocalClient
from tailbox.cli.output import CommandFailed
from tailbox.cli.status import find_peer, print_addresses, print_status, print_whois


def peer(name: str, ip: str, **changes: Any) -> dict[str, Any]:
    return {
        "DNSName": f"{name}.example.net.",
        "HostName": name,
        "OS": "linux",
        "UserID": 1,
        "TailscaleIPs": [ip, "fd7a:115c:a1e0::1"],
        "RxBytes": 0,
        "TxBytes": 0,
        "Active": False,
        "Online": True,
        "CurAddr": "",
        "Relay": "",
        **changes,
    }


STATUS: dict[str, Any] = {
    "BackendState": "Running",
    "TailscaleIPs": ["100.64.0.1", "fd7a:115c:a1e0::1"],
    "Self": peer("alpha", "100.64.0.1"),
    "Peer": {
        "b": peer("beta", "100.64.0.2", Active=True, CurAddr="192.0.2.7:41641", TxBytes=1448, RxBytes=2120),
        "c": peer("gamma", "100.64.0.3", Tags=["tag:ci"], RxBytes=92),
        "d": peer("delta", "100.64.0.4", Online=False, LastSeen="0001-01-01T00:00:00Z"),
        "e": peer("eps", "100.64.0.5", Active=True, Relay="fra", TxBytes=1, RxBytes=2),
    },
    "User": {"1": {"LoginName": "user@example.net"}},
    "Health": ["the relay is far away"],
}


class CannedNode:
    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    def request(self, method: str, endpoint: str, **_: Any) -> Any:
        return self._answers[endpoint]


def client(**answers: Any) -> LocalClient:
    return cast(LocalClient, CannedNode(answers))


def shown(status: dict[str, Any], capsys: pytest.CaptureFixture[str], **options: bool) -> str:
    defaults = {"as_json": False, "active_only": False, "show_self": True, "show_peers": True, "header": False}
    print_status(client(status=status), **(defaults | options))
    return capsys.readouterr().out


def test_the_table_has_upstreams_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(STATUS, capsys).splitlines() == [
        "100.64.0.1  alpha  user@           linux  -",
        "100.64.0.2  beta   user@           linux  active; direct 192.0.2.7:41641, tx 1448 rx 2120",
        "100.64.0.4  delta  user@           linux  offline",
        '100.64.0.5  eps    user@           linux  active; relay "fra", tx 1 rx 2',
        "100.64.0.3  gamma  tagged-devices  linux  idle, tx 0 rx 92",
        "",
        "# Health check:",
        "#     - the relay is far away",
    ]


def test_active_peers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(STATUS, capsys, active_only=True, show_self=False).splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["beta", "eps"]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("Stopped", "Tailbox is stopped.\n"),
        ("NeedsLogin", "Logged out.\nLog in at: http://x/login\n"),
        ("NeedsMachineAuth", "Machine is not yet approved by tailnet admin.\n"),
    ],
)
def test_a_node_that_is_not_up_says_why_and_fails(state: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandFailed) as caught:
        shown(STATUS | {"BackendState": state, "AuthURL": "http://x/login"}, capsys)
    assert caught.value.code == 1
    assert capsys.readouterr().out == text


def ips(capsys: pytest.CaptureFixture[str], target: str | None = None, **options: Any) -> str:
    defaults: dict[str, Any] = {"first": False, "v4": False, "v6": False, "asserted": None, "as_json": False}
    print_addresses(client(status=STATUS), target, **(defaults | options))
    return capsys.readouterr().out


def test_addresses_of_this_node_and_of_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert ips(capsys) == "100.64.0.1\nfd7a:115c:a1e0::1\n"
    assert ips(capsys, first=True) == "100.64.0.1\n"
    assert ips(capsys, "beta", v4=True) == "100.64.0.2\n"
    assert ips(capsys, "BETA.example.net.", v6=True) == "fd7a:115c:a1e0::1\n"
    assert ips(capsys, asserted="100.64.0.1") == ""


def test_ip_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    for options in ({"asserted": "100.64.0.9"}, {"target": "nobody"}, {"v4": True, "v6": True}):
        with pytest.raises(CommandFailed):
            ips(capsys, **options)


def test_peers_are_found_by_every_name() -> None:
    for name in ("100.64.0.2", "beta", "beta.example.net", "Beta.Example.Net."):
        found = find_peer(STATUS, name)
        assert found is not None
        assert found["HostName"] == "beta"
    assert find_peer(STATUS, "nobody") is None


def test_whois_names_machine_and_user(capsys: pytest.CaptureFixture[str]) -> None:
    node = {
        "Name": "beta.example.net.",
        "StableID": "n2",
        "Addresses": ["100.64.0.2/32"],
        "AllowedIPs": ["100.64.0.2/32", "10.0.0.0/8"],
    }
    answer = {"Node": node, "UserProfile": {"LoginName": "user@example.net", "ID": 1}, "CapMap": {"cap/x": None}}
    print_whois(client(whois=answer), "100.64.0.2", proto="", as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "Machine:",
        "  Name:          beta.example.net",
        "  ID:            n2",
        "  Addresses:     [100.64.0.2/32]",
        "  AllowedIPs:    [10.0.0.0/8]",
        "User:",
        "  Name:     user@example.net",
        "  ID:       1",
        "Capabilities:",
        "  - cap/x",
    ]
