"""The coordinator's settings say what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tailbox.coord.config import CoordConfig, EmbeddedRelay, load_derp_map
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


RELAY = EmbeddedRelay(host="192.0.2.1", derp_port=8443, certificate_pin="sha256-raw:" + "a" * 64)
FILE = (
    """{"Regions":{"901":{"RegionID":901,"RegionCode":"x","Nodes":[{"Name":"901a","RegionID":901,"HostName":"r"}]}}}"""
)


def test_the_derp_map_joins_our_relay_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "derp.json"
    path.write_text(FILE)
    derp_map = load_derp_map(replace(GOOD, relay=RELAY, derp_map_file=path))
    assert isinstance(derp_map.regions, dict)
    assert sorted(derp_map.regions) == [900, 901]
    own = derp_map.regions[900].nodes[0]
    assert (own.host_name, own.derp_port, own.cert_name) == ("192.0.2.1", 8443, "sha256-raw:" + "a" * 64)
    assert derp_map.omit_default_regions


@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [("192.0.2.1", "192.0.2.1", "none"), ("2001:db8::1", "none", "2001:db8::1"), ("relay.example.net", "", "")],
)
def test_a_relay_named_by_an_address_has_no_other_family(host: str, ipv4: str, ipv6: str) -> None:
    """Or `tailscale up` waits three seconds for STUN answers by a family that is not served."""
    regions = load_derp_map(replace(GOOD, relay=replace(RELAY, host=host))).regions
    assert isinstance(regions, dict)
    node = regions[900].nodes[0]
    assert (node.host_name, node.ipv4, node.ipv6) == (host, ipv4, ipv6)


def test_no_relay_at_all_is_an_empty_map() -> None:
    assert load_derp_map(GOOD).regions == {}


@pytest.mark.parametrize("text", ["", "[]", '{"Regions":{"901":{"RegionID":902}}}', FILE.replace("901", "900")])
def test_a_bad_derp_map_file_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "derp.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_derp_map(replace(GOOD, relay=RELAY, derp_map_file=path))
    assert caught.value.setting == "derp_map_file"


def test_a_missing_derp_map_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_derp_map(replace(GOOD, derp_map_file=tmp_path / "none"))
