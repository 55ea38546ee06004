"""Devices. Source: Tailscale OpenAPI v2; api-and-console reference §2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from tailbox.coord.admin.device_schema import (
    Device,
    DeviceList,
    DeviceRoutes,
    SetAuthorized,
    SetIp,
    SetKey,
    SetName,
    SetRoutes,
    SetTags,
)
from tailbox.coord.admin.device_view import device_view, sorted_routes
from tailbox.coord.admin.keys import check_tag_right
from tailbox.coord.admin.operation import ADMINS, NETWORK_ADMINS, Access, Call, Handler, Operation, QueryParameter
from tailbox.coord.core import devices as commands
from tailbox.coord.core.records import Role, TailnetNode
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Invalid

FIELDS = QueryParameter("fields", "`all` for every member, `default` for the usual ones.")


async def list_devices(call: Call) -> DeviceList:
    """GET all, or those whose members equal the filters: repeated and different filters must all hold."""
    tailnet = call.context.coordinator.tailnet
    is_complete = _wants_all(call)
    filters = [(name, value) for name, value in call.request.query_params.multi_items() if name != "fields"]
    nodes = [node for node in tailnet.nodes.values() if not filters or _matches(tailnet, node, filters)]
    regions = call.context.regions
    return DeviceList(tuple(device_view(tailnet, node, regions=regions, is_complete=is_complete) for node in nodes))


async def get_device(call: Call) -> Device:
    """GET one."""
    context = call.context
    return device_view(context.coordinator.tailnet, _node(call), regions=context.regions, is_complete=_wants_all(call))


async def delete_device(call: Call) -> None:
    """DELETE: the node learns that its key has expired, peers forget it."""
    await call.apply(partial(commands.delete_device, node_id=_node(call).id))


async def set_authorized(call: Call) -> None:
    """POST: approve, or take the approval back."""
    is_authorized = call.body(SetAuthorized).authorized
    await call.apply(partial(commands.authorize_device, node_id=_node(call).id, is_authorized=is_authorized))


async def expire_device(call: Call) -> None:
    """POST: the node key ends now."""
    await call.apply(partial(commands.expire_device, node_id=_node(call).id))


async def set_key(call: Call) -> None:
    """POST: switch key expiry off or on."""
    is_disabled = call.body(SetKey).key_expiry_disabled
    await call.apply(partial(commands.set_key_expiry, node_id=_node(call).id, is_disabled=is_disabled))


async def set_name(call: Call) -> None:
    """POST: rename; an empty name goes back to the host's own."""
    await call.apply(partial(commands.rename_device, node_id=_node(call).id, name=call.body(SetName).name))


async def set_tags(call: Call) -> None:
    """POST: replace the tags."""
    tags = call.body(SetTags).tags
    check_tag_right(call, tags)
    await call.apply(partial(commands.tag_device, node_id=_node(call).id, tags=tags))


async def set_ip(call: Call) -> None:
    """POST: another IPv4 address of the pool, that no device ever had."""
    await call.apply(partial(commands.set_device_ipv4, node_id=_node(call).id, ipv4=call.body(SetIp).ipv4))


async def get_routes(call: Call) -> DeviceRoutes:
    """GET what is advertised and what is enabled."""
    return _routes(_node(call))


async def set_routes(call: Call) -> DeviceRoutes:
    """POST: replace the enabled routes, advertised or not."""
    routes = call.body(SetRoutes).routes
    node = _node(call)
    await call.apply(partial(commands.set_device_routes, node_id=node.id, routes=routes))
    return _routes(call.context.coordinator.tailnet.node(node.id))


def _node(call: Call) -> TailnetNode:
    return call.context.coordinator.tailnet.find_node(call.parameter("device_id"))


def _routes(node: TailnetNode) -> DeviceRoutes:
    return DeviceRoutes(sorted_routes(node.announced_routes), sorted_routes(node.approved_routes))


def _wants_all(call: Call) -> bool:
    fields = call.request.query_params.get("fields", "default")
    if fields not in ("all", "default", ""):
        raise Invalid("fields must be all or default")
    return fields == "all"


def _matches(tailnet: Tailnet, node: TailnetNode, filters: Sequence[tuple[str, str]]) -> bool:
    """Whether every filter names a member whose value, or one of whose values, is the wanted one."""
    shown = msgspec.to_builtins(device_view(tailnet, node, regions={}, is_complete=True))
    assert isinstance(shown, dict)
    return all(wanted in _texts(shown.get(name)) for name, wanted in filters)


def _texts(value: object) -> list[str]:
    """A scalar or a list, as query strings spell it. Objects match nothing."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    return [str(value)] if isinstance(value, str | int | float) else []


def _operation(
    method: str,
    path: str,
    handler: Handler,
    name: str,
    summary: str,
    *,
    body: type[msgspec.Struct] | None = None,
    answer: type[msgspec.Struct] | None = None,
    query: tuple[QueryParameter, ...] = (),
    writers: frozenset[Role] = ADMINS,
) -> Operation:
    access = Access.READ if method == "GET" else Access.WRITE
    return Operation(
        method, f"/v2/device/{{device_id}}{path}", handler, name, "Devices", summary, access,
        body=body, answer=answer, query=query, errors=(404, 409), writers=writers,
    )  # fmt: skip


OPERATIONS = (
    Operation(
        "GET", "/v2/tailnet/{tailnet}/devices", list_devices, "listTailnetDevices", "Devices",
        "List devices. Any other parameter is a filter on the member of that name.",
        answer=DeviceList, query=(FIELDS,), errors=(404,),
    ),
    _operation("GET", "", get_device, "getDevice", "One device.", answer=Device, query=(FIELDS,)),
    _operation("DELETE", "", delete_device, "deleteDevice", "Remove a device from the tailnet."),
    _operation(
        "POST", "/authorized", set_authorized, "authorizeDevice", "Approve a device or take that back.",
        body=SetAuthorized,
    ),
    _operation("POST", "/expire", expire_device, "expireDeviceKey", "End a device's key now."),
    _operation("POST", "/key", set_key, "updateDeviceKey", "Switch key expiry off or on.", body=SetKey),
    _operation("POST", "/name", set_name, "setDeviceName", "Rename a device.", body=SetName),
    _operation("POST", "/ip", set_ip, "setDeviceIp", "Change a device's IPv4 address.", body=SetIp),
    _operation("POST", "/tags", set_tags, "setDeviceTags", "Replace a device's tags.", body=SetTags),
    _operation(
        "GET", "/routes", get_routes, "listDeviceRoutes", "Advertised and enabled routes.", answer=DeviceRoutes
    ),
    _operation(
        "POST", "/routes", set_routes, "setDeviceRoutes", "Replace the enabled routes.",
        body=SetRoutes, answer=DeviceRoutes, writers=NETWORK_ADMINS,
    ),
)  # fmt: skip
