"""The coordinator's settings say what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tailbox.coord.config import CoordConfig, EmbeddedRelay
from tailbox.errors import ConfigError

GOOD = CoordConfig(state_directory=Path("/state"), server_url="http://127.0.0.1:8080")


def test_defaults_are_usable() -> None:
    assert GOOD.base_domain == "tailnet.internal"
    assert not GOOD.is_secure
    assert GOOD.url("/login/abc") == "http://127.0.0.1:8080/login/abc"
    assert replace(GOOD, server_url="https://box.example.net/").url("/x") == "https://box.example.net/x"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "box.example.net",
        "ftp://box",
        "http://",
        "http://box/path",
        "http://box?x",
        "http://u@box",
        "http://b:0",
        "http://b:x",
    ],
)
def test_a_server_url_is_scheme_host_and_port_only(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(GOOD, server_url=url)
    assert caught.value.setting == "server_url"


@pytest.mark.parametrize(
    "domain", ["", "single", "Upper.example", "a..b", "-a.b", "x" * 64 + ".net", "under_score.net"]
)
def test_a_base_domain_is_a_lower_case_name(domain: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(GOOD, base_domain=domain)
    assert caught.value.setting == "base_domain"


@pytest.mark.parametrize("host", ["tailnet.internal", "coord.tailnet.internal"])
def test_the_server_may_not_lie_under_its_own_base_domain(host: str) -> None:
    with pytest.raises(ConfigError, match="must not lie under"):
        replace(GOOD, server_url=f"https://{host}")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("tailnet_name", "-"),
        ("tailnet_name", "a/b"),
        ("tailnet_name", ""),
        ("owner_login", ""),
        ("owner_login", "a\nb"),
        ("node_key_duration_days", 181),
        ("node_key_duration_days", -1),
        ("ephemeral_timeout_s", 0.0),
        ("followup_hold_s", -1.0),
    ],
)
def test_other_settings_name_themselves_when_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(GOOD, **{setting: value})  # type: ignore[arg-type]  # the point is to pass anything
    assert caught.value.setting == setting


@pytest.mark.parametrize(
    ("setting", "value"),
    [("host", ""), ("derp_port", 0), ("stun_port", 65536), ("region_id", 0), ("certificate_pin", "sha256-raw:xyz")],
)
def test_a_relay_is_checked_too(setting: str, value: object) -> None:
    good = EmbeddedRelay(host="127.0.0.1", derp_port=8443, stun_port=-1, certificate_pin="sha256-raw:" + "0" * 64)
    with pytest.raises(ConfigError) as caught:
        replace(good, **{setting: value})  # type: ignore[arg-type]  # the point is to pass anything
    assert caught.value.setting == f"derp.{setting}"
