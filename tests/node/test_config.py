"""Settings of a node: what is refused, and what the official image's variables mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tailbox.cli.node_settings import resolve_node
from tailbox.errors import ConfigError
from tailbox.node.config import NodeConfig


@pytest.mark.parametrize(
    "settings",
    [
        {"login_server": "coord.example"},
        {"listen_port": 70000},
        {"mtu": 100},
        {"advertise_tags": ("web",)},
        {"advertise_routes": ("10.0.0.1/8",)},
        {"hostname": "x" * 300},
        {"socks5_server": "0.0.0.0:1055"},
        {"socks5_server": ":1055"},
        {"socks5_server": "nonsense"},
        {"socks5_user": "user"},
    ],
)
def test_what_cannot_be_used_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        NodeConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"socks5_server": "127.0.0.1:1055"},
        {"socks5_server": "[::1]:1055"},
        {"socks5_server": "localhost:1055"},
        {"socks5_server": "0.0.0.0:1055", "socks5_user": "u", "socks5_password": "p"},
        {"socks5_server": "0.0.0.0:1055", "socks5_public_without_password": True},
    ],
)
def test_proxies_are_for_this_machine_or_asked_for_twice(settings: dict[str, Any]) -> None:
    assert NodeConfig(**settings).socks5_server == settings["socks5_server"]


def test_secrets_do_not_show() -> None:
    config = NodeConfig(auth_key="tskey-auth-secret", socks5_user="u", socks5_password="hunter2")
    assert "secret" not in repr(config)
    assert "hunter2" not in repr(config)


def test_state_in_memory_means_ephemeral() -> None:
    assert NodeConfig().is_ephemeral
    assert not NodeConfig(state_dir=Path("/x")).is_ephemeral
    assert NodeConfig(state_dir=Path("/x"), ephemeral=True).is_ephemeral
    assert NodeConfig(state_dir=Path("/x")).state_file == Path("/x/tailscaled.state")
    assert NodeConfig(state_dir=Path("/x")).socket_path == Path("/x/tailboxd.sock")
    assert NodeConfig().socket_path is None


def test_auth_keys_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("tskey-auth-x\n")
    assert NodeConfig(auth_key=f"file:{tmp_path / 'key'}").read_auth_key() == "tskey-auth-x"
    assert NodeConfig(auth_key=" tskey ").read_auth_key() == "tskey"
    with pytest.raises(ConfigError, match="No such file"):
        NodeConfig(auth_key=f"file:{tmp_path / 'none'}").read_auth_key()
    (tmp_path / "empty").write_text("\n")
    for blank in (f"file:{tmp_path / 'empty'}", "file:", "  "):
        with pytest.raises(ConfigError, match="wanted"):
            NodeConfig(auth_key=blank).read_auth_key()
    assert NodeConfig().read_auth_key() == ""


@pytest.mark.parametrize("address", ["0.0.0.0:1055", ":1055", "[::]:1055", "192.0.2.1:1055"])
@pytest.mark.parametrize("variable", ["TS_SOCKS5_SERVER", "TS_OUTBOUND_HTTP_PROXY_LISTEN"])
def test_a_containers_proxy_beyond_loopback_is_asked_for_twice(variable: str, address: str) -> None:
    def resolved(**more: str) -> NodeConfig:
        return resolve_node({}, {variable: address, **more}, flags={})

    with pytest.raises(ConfigError, match="TAILBOX_SOCKS5_PUBLIC_WITHOUT_PASSWORD=true"):
        resolved()
    with pytest.raises(ConfigError):
        resolved(TAILBOX_SOCKS5_PUBLIC_WITHOUT_PASSWORD="false")
    assert resolved(TAILBOX_SOCKS5_PUBLIC_WITHOUT_PASSWORD="true").socks5_server == address
    with_password = resolved(TAILBOX_SOCKS5_USER="u", TAILBOX_SOCKS5_PASSWORD="p")
    assert (with_password.socks5_user, with_password.socks5_public_without_password) == ("u", False)


def test_the_official_images_variables() -> None:
    config = NodeConfig.from_environment(
        {
            "TS_AUTHKEY": "k",
            "TS_HOSTNAME": "web",
            "TS_STATE_DIR": "/state",
            "TS_SOCKET": "/tmp/s",
            "TS_ROUTES": "10.0.0.0/8,192.168.0.0/16",
            "TS_ACCEPT_DNS": "false",
            "TS_USERSPACE": "true",
            "TS_SOCKS5_SERVER": "127.0.0.1:1055",
            "TS_OUTBOUND_HTTP_PROXY_LISTEN": "127.0.0.1:1055",
            "TS_EXTRA_ARGS": "--login-server=http://coord:8080 --advertise-tags tag:a,tag:b --shields-up",
            "TS_TAILSCALED_EXTRA_ARGS": "--port 41641",
            "TS_ENABLE_HEALTH_CHECK": "1",
            "TS_AUTH_ONCE": "true",
            "POD_IP": "10.0.0.3",
        }
    )
    assert (config.auth_key, config.hostname, config.state_dir) == ("k", "web", Path("/state"))
    assert config.advertise_routes == ("10.0.0.0/8", "192.168.0.0/16")
    assert (config.accept_dns, config.shields_up, config.listen_port) == (False, True, 41641)
    assert (config.login_server, config.advertise_tags) == ("http://coord:8080", ("tag:a", "tag:b"))
    assert (config.socks5_server, config.metrics_listen) == ("127.0.0.1:1055", "[::]:9002")
    assert NodeConfig.from_environment({"TS_ROUTES": "", "TS_AUTH_KEY": "old"}).auth_key == "old"
    assert NodeConfig.from_environment({"TS_HEALTHCHECK_ADDR_PORT": ":1"}).metrics_listen == ":1"
    assert NodeConfig.from_environment({"TS_DEBUG_ALWAYS_USE_DERP": "1"}).always_relay


@pytest.mark.parametrize(
    "environment",
    [
        {"TS_USERSPACE": "false"},
        {"TS_DEST_IP": "10.0.0.1"},
        {"TS_KUBE_SECRET": "tailscale"},
        {"TS_CLIENT_SECRET": "s"},
        {"TS_ACCEPT_DNS": "perhaps"},
        {"TS_EXTRA_ARGS": "--ssh"},
        {"TS_EXTRA_ARGS": "--hostname"},
        {"TS_EXTRA_ARGS": "--hostname='x"},
        {"TS_TAILSCALED_EXTRA_ARGS": "--port=x"},
        {"TS_SOCKS5_SERVER": ":1", "TS_OUTBOUND_HTTP_PROXY_LISTEN": ":2"},
    ],
)
def test_variables_that_mean_nothing_here_are_refused_by_name(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="TS_"):
        NodeConfig.from_environment(environment)
