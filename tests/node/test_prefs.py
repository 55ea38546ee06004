"""Preferences as the real command line reads them."""

from __future__ import annotations

import pytest

from tailbox.errors import Invalid
from tailbox.node.config import NodeConfig
from tailbox.node.node import Node
from tailbox.node.prefs import masked_changes, prefs_json
from tests.node.conftest import Tailnet


async def test_what_we_do_not_have_is_at_upstreams_default(tailnet: Tailnet) -> None:
    """Or `tailscale up` asks to mention flags that nobody set: ipn/prefs.go NewPrefs."""
    node: Node = await tailnet.node("alpha")
    assert node._backend is not None
    prefs = prefs_json(node._backend)
    assert prefs["NetfilterMode"] == 2
    assert prefs["NoStatefulFiltering"] is True
    assert (prefs["NoSNAT"], prefs["RunSSH"], prefs["CorpDNS"]) == (False, False, True)


def test_only_marked_members_change_anything() -> None:
    config = NodeConfig(login_server="http://127.0.0.1")
    change = masked_changes(
        {"RouteAll": True, "ShieldsUp": True, "ShieldsUpSet": True, "NetfilterModeSet": True}, config
    )
    assert change.config.shields_up
    assert not change.config.accept_routes
    assert change.want_running is None


@pytest.mark.parametrize(
    "bad", [{"AdvertiseTags": "tag:x"}, {"AdvertiseRoutes": [1]}, {"Hostname": 7}, {"RunSSH": True}]
)
def test_what_is_wrong_or_not_supported_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        masked_changes(bad | {f"{name}Set": True for name in bad}, NodeConfig(login_server="http://127.0.0.1"))
