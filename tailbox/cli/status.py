"""`tailbox status`, `ip` and `whois`: what the node knows, in upstream's layout.

Source: tailscale cmd/tailscale/cli/{status,ip,whois}.go.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Any

from tailbox.cli.local_client import LocalClient, call
from tailbox.cli.output import CommandFailed, columns, fail, show, show_json

Status = dict[str, Any]
PeerStatus = dict[str, Any]

READY_STATES = ("Running", "Starting")
HEADER = (["IP", "Hostname", "Owner", "OS", "Status"], ["--", "--------", "-----", "--", "------"])


def print_status(
    client: LocalClient, *, as_json: bool, active_only: bool, show_self: bool, show_peers: bool, header: bool
) -> None:
    """Raises CommandFailed with exit code 1 unless the node is up."""
    status = call(client, "GET", "status", query=None if show_peers else {"peers": "false"})
    if as_json:
        shown = dict(status)
        if active_only and shown.get("Peer"):
            shown["Peer"] = {key: peer for key, peer in shown["Peer"].items() if peer["Active"]}
        if not show_self:
            shown["Self"] = None
        show_json(shown)
        return
    require_running(status)
    rows = [list(row) for row in HEADER] if header else []
    if show_self and status.get("Self"):
        rows.append(status_row(status, status["Self"], is_self=True))
    if show_peers:
        peers = sorted(peers_of(status), key=lambda peer: (short_name(peer), peer.get("TailscaleIPs") or []))
        rows += [status_row(status, peer) for peer in peers if peer["Active"] or not active_only]
    show(columns(rows))
    if status.get("Health"):
        show("\n# Health check:\n" + "\n".join(f"#     - {text}" for text in status["Health"]))


def print_addresses(
    client: LocalClient, peer: str | None, *, first: bool, v4: bool, v6: bool, asserted: str | None, as_json: bool
) -> None:
    """The node's or a peer's tailnet addresses, IPv4 first. Raises CommandFailed."""
    if first + v4 + v6 > 1:
        fail("tailbox ip -1, -4, and -6 are mutually exclusive")
    status = call(client, "GET", "status")
    if asserted:
        if asserted not in (status.get("TailscaleIPs") or []):
            fail(f"assertion failed: IP {asserted!r} not found among {status.get('TailscaleIPs') or []}")
        return
    if peer is None and status["BackendState"] not in READY_STATES:
        require_running(status)
    found = status["Self"] if peer is None else find_peer(status, peer)
    addresses = (found or {}).get("TailscaleIPs") or []
    if peer is not None and found is None:
        fail(f"no peer found with IP or name {peer!r}")
    if v4 or v6:
        addresses = [ip for ip in addresses if ipaddress.ip_address(ip).version == (4 if v4 else 6)]
    if not addresses:
        fail(f"no current Tailbox IPs; state: {status['BackendState']}" if peer is None else "no addresses found")
    chosen = addresses[:1] if first else addresses
    if as_json:
        show_json(chosen)
    else:
        show("\n".join(chosen))


def print_whois(client: LocalClient, address: str, *, proto: str, as_json: bool) -> None:
    """Who is behind a tailnet address. Raises CommandFailed for unknown ones."""
    query = {"addr": address} | ({"proto": proto} if proto else {})
    answer = call(client, "GET", "whois", query=query)
    if as_json:
        show_json(answer)
        return
    node, user = answer["Node"], answer["UserProfile"]
    addresses = node.get("Addresses") or []
    lines = [
        "Machine:",
        f"  Name:          {node['Name'].removesuffix('.')}",
        f"  ID:            {node['StableID']}",
        f"  Addresses:     [{' '.join(addresses)}]",
    ]
    routed = [prefix for prefix in node.get("AllowedIPs") or [] if prefix not in addresses]
    if routed:
        lines.append(f"  AllowedIPs:    [{' '.join(routed)}]")
    if node.get("Tags"):
        lines.append(f"  Tags:          {', '.join(node['Tags'])}")
    else:
        lines += ["User:", f"  Name:     {user['LoginName']}", f"  ID:       {user['ID']}"]
    if answer.get("CapMap"):
        lines.append("Capabilities:")
        lines += [f"  - {name}" for name in sorted(answer["CapMap"])]
    show("\n".join(lines))


def require_running(status: Status) -> None:
    """Raises CommandFailed after saying on standard output why the node is not up, as upstream does."""
    state = status["BackendState"]
    if state in READY_STATES:
        return
    if state == "Stopped":
        show("Tailbox is stopped.")
    elif state == "NeedsLogin":
        show("Logged out.")
        if status.get("AuthURL"):
            show(f"Log in at: {status['AuthURL']}")
    elif state == "NeedsMachineAuth":
        show("Machine is not yet approved by tailnet admin.")
    else:
        show(f"unexpected state: {state}")
    raise CommandFailed


def status_row(status: Status, peer: PeerStatus, *, is_self: bool = False) -> list[str]:
    """One line of the table: address, name, owner, system, what is going on."""
    addresses = peer.get("TailscaleIPs") or [""]
    return [addresses[0], short_name(peer), owner_of(status, peer), peer.get("OS", ""), activity(peer, is_self)]


def activity(peer: PeerStatus, is_self: bool) -> str:
    """The last column: `active; direct 192.0.2.7:41641, tx 1 rx 2`, `idle`, `offline, last seen 3d ago`, `-`."""
    role = "exit node" if peer.get("ExitNode") else "offers exit node" if peer.get("ExitNodeOption") else ""
    traffic = peer.get("TxBytes", 0) or peer.get("RxBytes", 0)
    offline = "" if peer.get("Online") or is_self else f"offline{last_seen(peer)}"
    if peer.get("Active"):
        parts = ["active", *([role] if role else [])]
        if peer.get("CurAddr"):
            parts.append(f"direct {peer['CurAddr']}")
        elif peer.get("Relay"):
            parts.append(f'relay "{peer["Relay"]}"')
        words = "; ".join([*parts, *([offline] if offline else [])])
    elif role:
        words = "; ".join(["idle", role, *([offline] if offline else [])])
    elif offline:
        words = offline
    else:
        words = "idle" if traffic else "-"
    return f"{words}, tx {peer['TxBytes']} rx {peer['RxBytes']}" if traffic else words


def last_seen(peer: PeerStatus) -> str:
    seen = peer.get("LastSeen") or ""
    if not seen or seen.startswith("0001-"):
        return ""
    try:
        moment = datetime.fromisoformat(seen)
    except ValueError:
        return ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return f", last seen {age((datetime.now(UTC) - moment).total_seconds())} ago"


def age(seconds: float) -> str:
    """One unit is enough: `40s`, `5m`, `3h`, `12d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def short_name(peer: PeerStatus) -> str:
    """The first label of the DNS name, or the host name in brackets."""
    dns_name = peer.get("DNSName") or ""
    return dns_name.split(".")[0] if dns_name else f'("{peer.get("HostName", "")}")'


def owner_of(status: Status, peer: PeerStatus) -> str:
    if peer.get("Tags"):
        return "tagged-devices"
    profile = (status.get("User") or {}).get(str(peer.get("UserID", 0)))
    if not profile or not profile.get("LoginName"):
        return "-"
    name, at, _ = profile["LoginName"].partition("@")
    return str(name + at)


def peers_of(status: Status) -> list[PeerStatus]:
    return list((status.get("Peer") or {}).values())


def find_peer(status: Status, name: str) -> PeerStatus | None:
    """A peer, or the node itself, by address, DNS name with or without suffix, or host name."""
    wanted = name.lower().removesuffix(".")
    everybody: list[PeerStatus] = [status["Self"], *peers_of(status)]
    for peer in everybody:
        dns_name = (peer.get("DNSName") or "").lower().removesuffix(".")
        if wanted in (peer.get("TailscaleIPs") or []) or (dns_name and wanted in (dns_name, dns_name.split(".")[0])):
            return peer
    return next((peer for peer in peers_of(status) if str(peer.get("HostName", "")).lower() == wanted), None)
