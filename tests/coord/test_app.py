"""The whole role: what a start makes, finds again and refuses; redirects, health, metrics, relay admission."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailbox.clock import ManualClock
from tailbox.coord.app import open_coord
from tailbox.coord.config import CoordConfig
from tailbox.errors import ConfigError
from tailbox.randomness import SeededRandom
from tailbox.runtime.status_routes import Health

if TYPE_CHECKING:
    from tests.coord.conftest import Lab


async def start_and_stop(config: CoordConfig) -> str:
    coord = await open_coord(config, clock=ManualClock(), random=SeededRandom("again"))
    key = coord.coordinator.secrets.noise_key.reveal()
    await coord.close()
    await coord.close()
    return key


async def test_the_first_start_makes_what_later_ones_find(config: CoordConfig) -> None:
    token_file = config.state_directory / "admin-token"
    key = await start_and_stop(config)
    token = token_file.read_text()
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert (config.state_directory / "server-url").read_text() == config.server_url + "\n"
    assert await start_and_stop(config) == key
    assert token_file.read_text() == token


async def test_a_damaged_admin_token_is_replaced(config: CoordConfig) -> None:
    await start_and_stop(config)
    token_file = config.state_directory / "admin-token"
    for damage in (b"", b"nonsense", b"\xff\xfe"):
        token_file.write_bytes(damage)
        await start_and_stop(config)
        assert token_file.read_text().startswith("tskey-api-")


async def test_names_follow_the_configuration_and_console_settings_stay(config: CoordConfig) -> None:
    first = replace(config, node_key_duration_days=30, is_device_approval_required=True)
    await start_and_stop(first)
    later = replace(config, node_key_duration_days=60, tailnet_name="renamed")
    coord = await open_coord(later, clock=ManualClock(), random=SeededRandom(1))
    settings = coord.coordinator.tailnet.settings
    await coord.close()
    assert (settings.tailnet_name, settings.key_duration_days) == ("renamed", 30)
    assert settings.is_device_approval_on
    assert len(coord.coordinator.tailnet.users) == 1


async def test_a_state_directory_in_use_or_unusable_is_a_configuration_error(
    lab: Lab, config: CoordConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="another coordinator"):
        await open_coord(config)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        await open_coord(replace(config, state_directory=tmp_path / "file"))


async def test_the_root_leads_to_the_console(lab: Lab) -> None:
    for path in ("/", "/admin"):
        answer = await lab.browser().get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "/admin/")
    assert (await lab.browser().get("/admin/")).status_code == 200


async def test_relays_learn_whom_we_know(lab: Lab) -> None:
    node = await lab.add_node()
    browser = lab.browser()
    for key, allow in ((node.node_key.text, True), ("nodekey:" + "7" * 64, False)):
        answer = await browser.post("/verify", json={"NodePublic": key, "Source": "192.0.2.7"})
        assert (answer.status_code, answer.json()) == (200, {"Allow": allow})
    for body in (b"", b"{}", b'{"NodePublic":""}', b" " * 5000):
        assert (await browser.post("/verify", content=body)).status_code == 400


async def test_health_and_metrics_count(lab: Lab) -> None:
    await lab.add_node()
    await lab.tool().get("/api/v2/whoami")
    assert lab.coord.service.health() == Health(
        details={"nodes": 1, "map_streams": 0, "relay_regions": 1, "can_store": True}
    )
    registry = lab.coord.metrics.registry
    assert registry.get_sample_value("tailbox_nodes") == 1
    assert registry.get_sample_value("tailbox_nodes_online") == 0
    labels = {"route": "/v2/whoami", "method": "GET", "status": "200"}
    assert registry.get_sample_value("tailbox_http_requests_total", labels) == 1


async def test_a_tailnet_without_relays_is_warned_of(config: CoordConfig, caplog: pytest.LogCaptureFixture) -> None:
    coord = await open_coord(replace(config, relay=None), clock=ManualClock(), random=SeededRandom(1))
    health = coord.service.health()
    await coord.close()
    assert health.is_healthy
    assert health.details["relay_regions"] == 0
    assert "DERP map" in str(health.details["warning"])
    assert "DERP map" in caplog.text


async def test_a_disk_that_refuses_is_a_503_and_an_ill_health_until_it_recovers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailbox.coord.coordinator.HOUSEKEEPING_MIN_S", 0.01)
    monkeypatch.setattr("tailbox.coord.coordinator.HOUSEKEEPING_MAX_S", 0.01)
    monkeypatch.setattr("tailbox.runtime.supervisor.FIRST_DELAY_S", 0.01)
    node = await lab.add_node()
    connection = lab.coord.coordinator._store._connection
    connection.execute("PRAGMA query_only = ON")  # every write fails, as on a file system remounted read-only
    answer = await lab.tool().post(f"/api/v2/device/{node.id}/name", json={"name": "other"})
    assert (answer.status_code, answer.json()) == (503, {"message": "the change could not be stored"})
    health = lab.coord.service.health()
    assert (health.is_healthy, health.details["can_store"]) == (False, False)
    failures = lab.coord.metrics.registry.get_sample_value("tailbox_store_failures")
    assert failures is not None
    assert failures >= 1
    connection.execute("PRAGMA query_only = OFF")
    async with asyncio.timeout(20):
        while not lab.coord.service.health().is_healthy:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.01)
    assert lab.coord.coordinator.tailnet.nodes[node.id].name == "alpha"


async def test_the_key_of_the_control_channel_is_served(lab: Lab) -> None:
    answer = (await lab.browser().get("/key", params={"v": "113"})).json()
    assert answer["publicKey"].startswith("mkey:")
