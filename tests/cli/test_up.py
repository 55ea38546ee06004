"""`up`: what it changes, what it says while it waits, and what it never passes on."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tailbox.cli.local_client import LocalClient
from tailbox.cli.output import CommandFailed
from tailbox.cli.up import (
    LOGIN_ERROR,
    Talk,
    UpOptions,
    changed_prefs,
    down,
    is_on_this_machine,
    login_error,
    masked,
    node_arguments,
    up_in_daemon,
)

PREFS = {"ControlURL": "http://old", "Hostname": "alpha", "RouteAll": False, "AdvertiseTags": None}


class ScriptedNode:
    """A LocalAPI that answers from a table and remembers what was asked."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.status = {"BackendState": "Running", "HaveNodeKey": True} | status
        self.asked: list[tuple[str, str, Any]] = []

    def request(self, method: str, endpoint: str, *, body: object = None, **_: Any) -> Any:
        self.asked.append((method, endpoint, body))
        if endpoint == "start":
            self.status["BackendState"] = "Running"
        return {"status": self.status, "prefs": PREFS}.get(endpoint)

    def writes(self) -> list[tuple[str, str]]:
        return [(method, endpoint) for method, endpoint, _ in self.asked if method != "GET"]


def run_up(node: ScriptedNode, settings: dict[str, Any], options: UpOptions | None = None) -> None:
    up_in_daemon(cast(LocalClient, node), settings, options or UpOptions())


def test_only_what_differs_is_changed_under_upstreams_names() -> None:
    settings = {"hostname": "alpha", "accept_routes": True, "advertise_tags": ("tag:a",), "socks5_server": ":1"}
    assert changed_prefs(PREFS, settings) == {"RouteAll": True, "AdvertiseTags": ["tag:a"]}
    assert masked({"RouteAll": True}) == {"RouteAll": True, "RouteAllSet": True}


def test_a_running_node_gets_one_patch(capsys: pytest.CaptureFixture[str]) -> None:
    node = ScriptedNode({})
    run_up(node, {"hostname": "beta"}, UpOptions(as_json=True))
    assert node.writes() == [("PATCH", "prefs")]
    assert '"BackendState": "Running"' in capsys.readouterr().out
    assert node.asked[-1][2] == {"Hostname": "beta", "HostnameSet": True, "WantRunning": True, "WantRunningSet": True}


def test_a_node_without_a_key_is_started_and_logged_in() -> None:
    node = ScriptedNode({"BackendState": "NeedsLogin", "HaveNodeKey": False})
    run_up(node, {"auth_key": "tskey-auth-a-b"})
    assert node.writes() == [("POST", "check-prefs"), ("POST", "start"), ("POST", "login-interactive")]
    assert node.asked[3][2]["AuthKey"] == "tskey-auth-a-b"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"login_server": "http://new"}, "another --state-dir"),
        ({"socks5_server": ":1", "listen_port": 5}, "--socks5-server, --port"),
    ],
)
def test_what_a_running_node_cannot_change_is_refused(settings: dict[str, Any], why: str) -> None:
    node = ScriptedNode({})
    with pytest.raises(CommandFailed, match=why):
        run_up(node, settings)
    assert node.writes() == []


def test_down_is_said_when_it_was_down_already(capsys: pytest.CaptureFixture[str]) -> None:
    node = ScriptedNode({"BackendState": "Stopped"})
    down(cast(LocalClient, node), as_json=True)
    assert node.writes() == []
    printed = capsys.readouterr()
    assert "already stopped" in printed.err
    assert printed.out == '{\n\t"BackendState": "Stopped"\n}\n'


def test_each_thing_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    talk = Talk(False, "http://server")
    waiting = {"BackendState": "NeedsLogin", "AuthURL": "http://server/login/1"}
    assert [talk.tell(waiting), talk.tell(waiting)] == [False, False]
    assert talk.tell({"BackendState": "NeedsMachineAuth"}) is False
    assert talk.tell({"BackendState": "Running"}) is True
    said = capsys.readouterr().err
    assert said.count("http://server/login/1") == 1
    assert "http://server/admin" in said
    assert said.endswith("Success.\n")


def test_a_refusal_ends_the_wait_with_the_coordinators_words() -> None:
    status = {"BackendState": "NeedsLogin", "Health": ["other", LOGIN_ERROR + "authkey expired"]}
    assert login_error(status) == "authkey expired"
    with pytest.raises(CommandFailed, match="backend error: authkey expired"):
        Talk(False, "").tell(status)


def test_json_talk_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    Talk(True, "").tell({"BackendState": "NeedsLogin", "AuthURL": "http://x"})
    assert '"AuthURL": "http://x"' in capsys.readouterr().out


def test_a_detached_node_is_not_told_how_its_starter_waits() -> None:
    given = ["--daemon", "--hostname", "a", "--timeout", "3s", "--json", "--timeout=5s", "--port", "1"]
    assert node_arguments(given) == ["--hostname", "a", "--port", "1"]


def test_loopback_coordinators_are_recognised() -> None:
    assert is_on_this_machine("http://127.0.0.1:8080")
    assert is_on_this_machine("http://localhost")
    assert not is_on_this_machine("https://example.net")
    assert not is_on_this_machine("")
