"""MapRequest → snapshot: what a node tells of itself. Source: control reference §6.1."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from tailbox.coord.core.change import NO_CHANGE, Change, Event, Outcome
from tailbox.coord.core.devices import node_event
from tailbox.coord.core.hostinfo import bounded_endpoints, merged_hostinfo
from tailbox.coord.core.names import free_name, label_from_hostname
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import NotFound
from tailbox.wire.control.map import MapRequest
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.keys import MachinePublicKey

MAX_NAMES_LEFT = (
    64  # ours: each name that a host leaves stays its owner's for ever; one that left so many keeps the last
)


def check_in(
    tailnet: Tailnet, now_unix_s: float, *, request: MapRequest, machine_key: MachinePublicKey
) -> Outcome[int]:
    """Record a node's endpoints, hostinfo, disco key and version. The result is the node's number.

    A lite update replaces, except where it says "no news". A stream fills only what is unknown yet, since it may
    carry older values than the lite update beside it; ReadOnly changes nothing.
    Raises NotFound for an unknown node key, and for one of another machine.
    """
    node = node_of(tailnet, request, machine_key)
    if request.read_only:
        return Outcome(tailnet, NO_CHANGE, node.id)
    updated = _updated(node, request) if request.is_lite_update else _completed(node, request)
    updated = _renamed(tailnet, node, updated)
    if updated == node:
        return Outcome(tailnet, NO_CHANGE, node.id)
    names = frozenset() if node.name == updated.name else frozenset({node.name, updated.name})
    change = Change(nodes=frozenset({node.id}), names=names, events=_events(node, updated))
    return Outcome(tailnet.with_node(updated), change, node.id)


def node_of(tailnet: Tailnet, request: MapRequest, machine_key: MachinePublicKey) -> TailnetNode:
    """The node that asks. Raises NotFound: a node key counts only together with its machine key."""
    node = tailnet.node_by_key(request.node_key)
    if node is None or node.machine_key != machine_key:
        raise NotFound("unknown node key")
    return node


def _updated(node: TailnetNode, request: MapRequest) -> TailnetNode:
    return msgspec.structs.replace(
        node,
        capability_version=request.version or node.capability_version,
        disco_key=request.disco_key or node.disco_key,
        endpoints=node.endpoints if request.endpoints is UNSET else bounded_endpoints(request.endpoints),
        hostinfo=node.hostinfo if request.hostinfo is None else merged_hostinfo(node.hostinfo, request.hostinfo),
    )


def _completed(node: TailnetNode, request: MapRequest) -> TailnetNode:
    endpoints = () if request.endpoints is UNSET else bounded_endpoints(request.endpoints)
    hostinfo = node.hostinfo
    if request.hostinfo is not None:
        if hostinfo == Hostinfo():
            hostinfo = merged_hostinfo(hostinfo, request.hostinfo)
        elif hostinfo.net_info is None and request.hostinfo.net_info is not None:
            hostinfo = msgspec.structs.replace(hostinfo, net_info=request.hostinfo.net_info)
    return msgspec.structs.replace(
        node,
        capability_version=request.version or node.capability_version,
        disco_key=node.disco_key or request.disco_key,
        endpoints=node.endpoints or endpoints,
        hostinfo=hostinfo,
    )


def _renamed(tailnet: Tailnet, before: TailnetNode, after: TailnetNode) -> TailnetNode:
    """A host that calls itself otherwise is renamed, unless an administrator chose the name."""
    if after.is_name_given or after.hostinfo.hostname == before.hostinfo.hostname or not after.hostinfo.hostname:
        return after
    if sum(retired.node_id == after.id for retired in tailnet.retired_names.values()) >= MAX_NAMES_LEFT:
        return after
    wanted = label_from_hostname(after.hostinfo.hostname)
    name = free_name(tailnet, wanted, node_id=after.id, owner=after.name_owner)
    return msgspec.structs.replace(after, name=name)


def _events(before: TailnetNode, after: TailnetNode) -> tuple[Event, ...]:
    """Only the new name is worth a line of the audit log."""
    return (node_event(after, "UPDATE", "MACHINE_NAME"),) if after.name != before.name else ()
