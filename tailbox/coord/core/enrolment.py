"""Making a node of a registration: new, or the one that this machine already has.

Shared by the two ways in, auth key and person. Source: control reference §5.4, §5.5; headscale hscontrol/state.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tailbox.coord.core.addressing import next_addresses
from tailbox.coord.core.change import Change, Outcome
from tailbox.coord.core.devices import new_expiry, node_event
from tailbox.coord.core.names import free_name, label_from_hostname
from tailbox.coord.core.records import TailnetNode, name_owner
from tailbox.coord.core.tailnet import Tailnet, stable_id_of
from tailbox.errors import Conflict
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.keys import MachinePublicKey, NetworkLockPublicKey, NodePublicKey


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Everything that decides about the node."""

    machine_key: MachinePublicKey
    node_key: NodePublicKey
    old_node_key: NodePublicKey | None
    lock_key: NetworkLockPublicKey | None
    hostinfo: Hostinfo
    capability_version: int
    user_id: int
    tags: tuple[str, ...]
    is_ephemeral: bool
    is_authorized: bool  # without further approval
    auth_key_id: str = ""


def enrol(tailnet: Tailnet, now_unix_s: float, enrolment: Enrolment) -> Outcome[TailnetNode]:
    """Create the node, or renew the one that the machine has. Raises Conflict: key of another machine, no address left,
    more than one node that could be meant.
    """
    former = _former_node(tailnet, enrolment)
    return _create(tailnet, now_unix_s, enrolment) if former is None else _renew(tailnet, now_unix_s, enrolment, former)


def _former_node(tailnet: Tailnet, enrolment: Enrolment) -> TailnetNode | None:
    """The node to renew: by its key, by its old key, else the only one of this machine and user."""
    holder = tailnet.node_by_key(enrolment.node_key)
    if holder is not None and holder.machine_key != enrolment.machine_key:
        raise Conflict("node key is in use by another machine")
    mine = [node for node in tailnet.nodes_of_machine(enrolment.machine_key) if node.user_id == enrolment.user_id]
    if holder is not None:
        if holder not in mine:
            raise Conflict("node key is in use by another user")
        return holder
    for node in mine:
        if node.node_key == enrolment.old_node_key:
            return node
    if len(mine) > 1:
        raise Conflict("more than one device of this machine could be meant")
    return mine[0] if mine else None


def _create(tailnet: Tailnet, now_unix_s: float, enrolment: Enrolment) -> Outcome[TailnetNode]:
    counters = tailnet.counters
    ipv4, ipv6, counters = next_addresses(counters)
    node_id = counters.node + 1
    counters = msgspec.structs.replace(counters, node=node_id)
    owner, wanted = name_owner(enrolment.user_id, enrolment.tags), label_from_hostname(enrolment.hostinfo.hostname)
    node = TailnetNode(
        id=node_id,
        stable_id=stable_id_of(node_id),
        machine_key=enrolment.machine_key,
        node_key=enrolment.node_key,
        lock_key=enrolment.lock_key,
        user_id=enrolment.user_id,
        tags=enrolment.tags,
        name=free_name(tailnet, wanted, node_id=node_id, owner=owner),
        ipv4=ipv4,
        ipv6=ipv6,
        hostinfo=enrolment.hostinfo,
        capability_version=enrolment.capability_version,
        is_authorized=enrolment.is_authorized,
        is_ephemeral=enrolment.is_ephemeral,
        auth_key_id=enrolment.auth_key_id,
        created_unix_s=now_unix_s,
        key_expires_unix_s=None if enrolment.tags else new_expiry(tailnet, now_unix_s),
        last_seen_unix_s=now_unix_s,
    )
    events = (node_event(node, "CREATE"), node_event(node, "LOGIN"))
    change = Change(nodes=frozenset({node_id}), names=frozenset({node.name}), has_counters=True, events=events)
    return Outcome(tailnet.with_counters(counters).with_node(node), change, node)


def _renew(tailnet: Tailnet, now_unix_s: float, enrolment: Enrolment, former: TailnetNode) -> Outcome[TailnetNode]:
    """Same identifiers, addresses and name; new key, new expiry. The old key is gone from every map."""
    is_rotation = former.node_key != enrolment.node_key
    tags = enrolment.tags or former.tags
    node = msgspec.structs.replace(
        former,
        node_key=enrolment.node_key,
        disco_key=None if is_rotation else former.disco_key,
        lock_key=enrolment.lock_key or former.lock_key,
        tags=tags,
        hostinfo=msgspec.structs.replace(
            enrolment.hostinfo, net_info=enrolment.hostinfo.net_info or former.hostinfo.net_info
        ),
        capability_version=enrolment.capability_version,
        is_authorized=former.is_authorized or enrolment.is_authorized,
        is_ephemeral=enrolment.is_ephemeral,
        auth_key_id=enrolment.auth_key_id or former.auth_key_id,
        key_expires_unix_s=None if tags else new_expiry(tailnet, now_unix_s),
        is_expiry_announced=False,
        last_seen_unix_s=now_unix_s,
    )
    change = Change(nodes=frozenset({node.id}), events=(node_event(node, "LOGIN"),))
    return Outcome(tailnet.with_node(node), change, node)
