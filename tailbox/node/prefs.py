"""Preferences in upstream's JSON: what LocalAPI shows, and what a masked change asks for.

Source: tailscale ipn/prefs.go; LocalAPI reference §8.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tailbox.errors import Invalid
from tailbox.node.backend import Backend
from tailbox.node.config import NodeConfig
from tailbox.node.core.control_session import Phase
from tailbox.node.core.status import JsonObject

NETFILTER_ON = 2  # preftype: upstream's default, also without a kernel's network; `up` asks about anything else


@dataclass(frozen=True, slots=True)
class PrefsChange:
    """What a PATCH asks for. None: no change."""

    config: NodeConfig
    want_running: bool | None = None
    hostname: str | None = None


def prefs_json(backend: Backend) -> JsonObject:
    """Every member that the real client expects; `Config` is null, so that keys stay here."""
    config, state, phase = backend.config, backend.state_on_disk, backend.session.phase
    return {
        "ControlURL": state.login_server,
        "RouteAll": config.accept_routes,
        "ExitNodeID": "",
        "ExitNodeIP": "",
        "InternalExitNodePrior": "",
        "ExitNodeAllowLANAccess": False,
        "CorpDNS": config.accept_dns,
        "RunSSH": False,
        "RunWebClient": False,
        "WantRunning": phase is not Phase.STOPPED,
        "LoggedOut": phase is Phase.LOGGED_OUT,
        "ShieldsUp": config.shields_up,
        "AdvertiseTags": list(config.advertise_tags) or None,
        "Hostname": state.hostname,
        "NotepadURLs": False,
        "AdvertiseRoutes": list(config.advertise_routes) or None,
        "AdvertiseServices": None,
        "Sync": None,
        "NoSNAT": False,
        "NoStatefulFiltering": True,
        "NetfilterMode": NETFILTER_ON,
        "AutoUpdate": {"Check": False, "Apply": None},
        "AppConnector": {"Advertise": False},
        "PostureChecking": False,
        "NetfilterKind": "",
        "RemoteConfig": False,
        "DriveShares": None,
        "Config": None,
    }


_NOT_SUPPORTED = ("RunSSH", "RunWebClient", "ExitNodeID", "ExitNodeIP", "AutoExitNode", "AdvertiseServices")


def masked_changes(masked: JsonObject, config: NodeConfig) -> PrefsChange:
    """Only members whose `…Set` is true count. Raises Invalid, ConfigError."""

    def is_set(name: str) -> bool:
        return masked.get(f"{name}Set") is True

    for name in _NOT_SUPPORTED:
        if is_set(name) and masked.get(name):
            raise Invalid(f"{name} is not supported by this node")
    changed = config
    if is_set("RouteAll"):
        changed = replace(changed, accept_routes=bool(masked.get("RouteAll")))
    if is_set("CorpDNS"):
        changed = replace(changed, accept_dns=bool(masked.get("CorpDNS")))
    if is_set("ShieldsUp"):
        changed = replace(changed, shields_up=bool(masked.get("ShieldsUp")))
    if is_set("AdvertiseRoutes"):
        changed = replace(changed, advertise_routes=_texts(masked, "AdvertiseRoutes"))
    if is_set("AdvertiseTags"):
        changed = replace(changed, advertise_tags=_texts(masked, "AdvertiseTags"))
    hostname = masked.get("Hostname") if is_set("Hostname") else None
    if hostname is not None and not isinstance(hostname, str):
        raise Invalid("Hostname is not text")
    running = bool(masked.get("WantRunning")) if is_set("WantRunning") else None
    return PrefsChange(changed, want_running=running, hostname=hostname)


def _texts(masked: JsonObject, name: str) -> tuple[str, ...]:
    found = masked.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise Invalid(f"{name} is not a list of texts")
    return tuple(found)
