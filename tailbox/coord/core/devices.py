"""What administrators do to devices."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from tailbox.coord.core.addressing import choose_ipv4
from tailbox.coord.core.change import NO_CHANGE, Change, Event, Outcome, TargetKind
from tailbox.coord.core.names import free_name, given_name, label_from_hostname
from tailbox.coord.core.records import DAY_S, TailnetNode
from tailbox.coord.core.tags import check_tags
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Conflict, Invalid, Malformed
from tailbox.wire.addresses import parse_network

MAX_ROUTES = 256  # reliability reference §1.17
EXIT_ROUTES = ("0.0.0.0/0", "::/0")  # approved as a pair, never a primary route


def authorize_device(tailnet: Tailnet, now_unix_s: float, *, node_id: int, is_authorized: bool) -> Outcome[None]:
    """Approve a device, or take the approval back. Raises NotFound."""
    node = msgspec.structs.replace(tailnet.node(node_id), is_authorized=is_authorized)
    return _outcome(tailnet, node, "APPROVE" if is_authorized else "REVOKE")


def rename_device(tailnet: Tailnet, now_unix_s: float, *, node_id: int, name: str) -> Outcome[None]:
    """Give a name; "" goes back to the host's own. Raises NotFound, Invalid, Conflict."""
    node = tailnet.node(node_id)
    if name:
        label = given_name(tailnet, name, node_id=node_id, owner=node.name_owner)
    else:
        wanted = label_from_hostname(node.hostinfo.hostname)
        label = free_name(tailnet, wanted, node_id=node_id, owner=node.name_owner)
    node = msgspec.structs.replace(node, name=label, is_name_given=bool(name))
    return _outcome(tailnet, node, "UPDATE", "MACHINE_NAME")


def tag_device(tailnet: Tailnet, now_unix_s: float, *, node_id: int, tags: Collection[str]) -> Outcome[None]:
    """Replace the tags. A tagged device has no owner and no key expiry. Raises NotFound, Invalid."""
    node = tailnet.node(node_id)
    checked = check_tags(tags)
    if checked and not node.is_tagged:
        node = msgspec.structs.replace(node, is_key_expiry_disabled=True)
    elif node.is_tagged and not checked and node.user_id not in tailnet.users:
        raise Conflict("the device's user is gone: a device without tags needs an owner")
    return _outcome(tailnet, msgspec.structs.replace(node, tags=checked), "UPDATE", "ACL_TAGS")


def set_key_expiry(tailnet: Tailnet, now_unix_s: float, *, node_id: int, is_disabled: bool) -> Outcome[None]:
    """Switch the node key's expiry off, or on again for a whole key duration from now. Raises NotFound."""
    node = tailnet.node(node_id)
    expires = node.key_expires_unix_s
    if not is_disabled and node.is_key_expiry_disabled:
        expires = new_expiry(tailnet, now_unix_s)
    node = msgspec.structs.replace(
        node, is_key_expiry_disabled=is_disabled, key_expires_unix_s=expires, is_expiry_announced=False
    )
    return _outcome(tailnet, node, "DISABLE" if is_disabled else "ENABLE", "KEY_EXPIRY")


def expire_device(tailnet: Tailnet, now_unix_s: float, *, node_id: int) -> Outcome[None]:
    """The node key ends now: its user has to log in again. Raises NotFound."""
    return _outcome(tailnet, expired(tailnet.node(node_id), now_unix_s), "UPDATE", "KEY_EXPIRY_TIME")


def delete_device(tailnet: Tailnet, now_unix_s: float, *, node_id: int) -> Outcome[None]:
    """Remove a device. Its identifiers and addresses are never given again, its name to nobody else.

    Raises NotFound.
    """
    return removal(tailnet, tailnet.node(node_id), "DELETE")


def set_device_ipv4(tailnet: Tailnet, now_unix_s: float, *, node_id: int, ipv4: str) -> Outcome[None]:
    """Give an IPv4 address that no device ever had. Raises NotFound, Invalid, Conflict."""
    node = tailnet.node(node_id)
    address, counters = choose_ipv4(tailnet, node, ipv4)
    if address == node.ipv4:
        return Outcome(tailnet, NO_CHANGE, None)
    after = tailnet.with_counters(counters).with_node(msgspec.structs.replace(node, ipv4=address))
    change = Change(nodes=frozenset({node_id}), has_counters=True, events=(node_event(node, "UPDATE", "ATTRIBUTES"),))
    return Outcome(after, change, None)


def set_device_routes(tailnet: Tailnet, now_unix_s: float, *, node_id: int, routes: Collection[str]) -> Outcome[None]:
    """Replace the approved routes, announced or not. The exit routes come as a pair. Raises NotFound, Invalid."""
    if len(routes) > MAX_ROUTES:
        raise Invalid(f"{len(routes)} routes: at most {MAX_ROUTES}")
    try:
        networks = {parse_network(route) for route in routes}
    except Malformed as error:
        raise Invalid(str(error)) from None
    if any(network.prefixlen == 0 for network in networks):
        networks |= {parse_network(route) for route in EXIT_ROUTES}
    ordered = sorted(networks, key=lambda network: (network.version, int(network.network_address), network.prefixlen))
    node = msgspec.structs.replace(tailnet.node(node_id), approved_routes=tuple(str(network) for network in ordered))
    return _outcome(tailnet, node, "UPDATE", "ALLOWED_IPS")


def removal(tailnet: Tailnet, node: TailnetNode, action: str) -> Outcome[None]:
    """The tailnet without the node, whatever the reason."""
    change = Change(nodes=frozenset({node.id}), names=frozenset({node.name}), events=(node_event(node, action),))
    return Outcome(tailnet.without_node(node.id), change, None)


def expired(node: TailnetNode, now_unix_s: float) -> TailnetNode:
    """The node with a key that has ended, by whatever setting it had."""
    ends = now_unix_s if node.key_expires_unix_s is None else min(node.key_expires_unix_s, now_unix_s)
    return msgspec.structs.replace(
        node, key_expires_unix_s=ends, is_key_expiry_disabled=False, is_expiry_announced=True
    )


def new_expiry(tailnet: Tailnet, now_unix_s: float) -> float | None:
    """When a key that is made now ends; None for never."""
    days = tailnet.settings.key_duration_days
    return now_unix_s + days * DAY_S if days else None


def node_event(node: TailnetNode, action: str, aspect: str = "") -> Event:
    """An audit event about a node."""
    return Event(TargetKind.NODE, action, aspect, target_id=node.stable_id, target_name=node.name)


def _outcome(tailnet: Tailnet, node: TailnetNode, action: str, aspect: str = "") -> Outcome[None]:
    before = tailnet.nodes[node.id]
    if before == node:
        return Outcome(tailnet, NO_CHANGE, None)
    names = frozenset() if before.name == node.name else frozenset({before.name, node.name})
    change = Change(nodes=frozenset({node.id}), names=names, events=(node_event(node, action, aspect),))
    return Outcome(tailnet.with_node(node), change, None)
