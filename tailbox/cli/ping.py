"""`tailbox ping`: ask the node to ping a peer until the path is direct. Source: tailscale cmd/tailscale/cli/ping.go."""

from __future__ import annotations

import time
from typing import Any

from tailbox.cli.local_client import DaemonUnreachable, LocalApiError, LocalClient, call
from tailbox.cli.output import fail, go_duration, show, show_json
from tailbox.cli.status import find_peer, require_running

PAUSE_S = 1.0  # between pings


def ping(
    client: LocalClient, target: str, *, kind: str, count: int, timeout_s: float, until_direct: bool, as_json: bool
) -> None:
    """Print a line an answer. Raises CommandFailed unless a (direct, when asked for) answer came."""
    status = call(client, "GET", "status")
    require_running(status)
    address = resolve(status, target)
    answered = 0
    results: list[dict[str, Any]] = []
    for attempt in range(1, count + 1) if count else _forever():
        result = _ask(client, address, kind, timeout_s)
        if result.get("IsLocalIP"):
            show(result["Err"])
            return
        if result.get("Err"):
            fail(result["Err"])
        results.append(result)
        if as_json:
            show_json(result)
        elif result.get("TimedOut"):
            show(f'ping "{address}" timed out')
        else:
            show(describe(result))
        if not result.get("TimedOut"):
            answered += 1
            if kind != "disco" or (result.get("Endpoint") and until_direct):
                return
        if attempt != count:
            time.sleep(PAUSE_S)
    if not answered:
        fail("no reply")
    if until_direct and kind == "disco":
        fail("direct connection not established")


def describe(result: dict[str, Any]) -> str:
    """`pong from NAME (IP) via 192.0.2.7:41641 in 31ms`."""
    via = result.get("Endpoint") or (f"DERP({result['DERPRegionCode']})" if result.get("DERPRegionID") else "")
    if not via:
        via = result.get("Type", "TSMP")
    latency = go_duration(result["LatencySeconds"], resolution_s=0.001 if result["LatencySeconds"] >= 0.001 else 1e-6)
    return f"pong from {result['NodeName']} ({result['NodeIP']}) via {via} in {latency}"


def resolve(status: dict[str, Any], target: str) -> str:
    """The first address of a peer by name; addresses pass as they are. Raises CommandFailed."""
    peer = find_peer(status, target)
    if peer is not None and peer.get("TailscaleIPs"):
        return str(peer["TailscaleIPs"][0])
    if any(separator in target for separator in (":",)) or target.replace(".", "").isdigit():
        return target
    fail(f"no such peer: {target}")


def _ask(client: LocalClient, address: str, kind: str, timeout_s: float) -> dict[str, Any]:
    try:
        answer = client.request("POST", "ping", query={"ip": address, "type": kind}, timeout_s=timeout_s)
    except DaemonUnreachable as error:
        if "timed out" in str(error):
            return {"TimedOut": True, "IP": address}
        fail(f"Failed to connect to local Tailbox daemon for {error}; not running?")
    except LocalApiError as error:
        fail(str(error))
    return dict(answer) | {"Type": kind}


def _forever() -> Any:
    from itertools import count

    return count(1)
