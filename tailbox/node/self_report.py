"""What the node tells of itself: host information and endpoints to the coordinator, endpoints to the path finder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailbox.node.core.control_session import ControlSession
from tailbox.node.driver import EngineDriver
from tailbox.node.host_information import host_information
from tailbox.node.netcheck_runner import NetcheckResult

if TYPE_CHECKING:
    from tailbox.node.config import NodeConfig
    from tailbox.wire.control.node import Hostinfo


class SelfReport:
    """Keeps the session's host information and endpoints up to date, and says when the coordinator should hear."""

    def __init__(
        self, session: ControlSession, driver: EngineDriver, *, log_id: str, tell_soon: Callable[[], None]
    ) -> None:
        self._session = session
        self._driver = driver
        self._log_id = log_id
        self._tell_soon = tell_soon
        self._last: NetcheckResult | None = None

    def set_config(self, config: NodeConfig, hostname: str) -> None:
        """Settings or the name changed: the coordinator hears in any case."""
        self._session.hostinfo = self._host_information(config, hostname)
        self._tell_soon()

    def set_netcheck(self, result: NetcheckResult, config: NodeConfig, hostname: str) -> None:
        """A netcheck ended. Latencies vary from run to run: only other endpoints or another home are news."""
        self._last = result
        before = (self._session.endpoints, _home_of(self._session.hostinfo))
        own = () if config.always_relay else result.endpoints
        self._session.endpoints = tuple((str(each.endpoint), int(each.kind)) for each in own)
        effects = self._driver.engine.set_own_endpoints([each.endpoint for each in own], now=self._driver.now)
        self._driver.perform(effects)
        self._session.hostinfo = self._host_information(config, hostname)
        if before != (self._session.endpoints, _home_of(self._session.hostinfo)):
            self._tell_soon()

    def _host_information(self, config: NodeConfig, hostname: str) -> Hostinfo:
        return host_information(config, hostname=hostname, log_id=self._log_id, netcheck=self._last)


def _home_of(hostinfo: Hostinfo) -> int:
    return hostinfo.net_info.preferred_derp if hostinfo.net_info else 0
