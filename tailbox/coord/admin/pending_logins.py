"""Logins that wait for somebody: list, approve, refuse. An extension of ours; the console and `/login/{id}` use it."""

from __future__ import annotations

from functools import partial

from tailbox.coord.admin.authorization import Caller
from tailbox.coord.admin.context import AdminContext
from tailbox.coord.admin.device_schema import Device
from tailbox.coord.admin.device_view import device_view
from tailbox.coord.admin.operation import Access, AnswerStruct, Call, Operation
from tailbox.coord.admin.pending_login_view import PendingLoginView, pending_login_view
from tailbox.coord.core import pending_logins as commands
from tailbox.coord.core.records import PendingLogin, TailnetNode


class PendingLoginList(AnswerStruct, frozen=True):
    """All that wait, oldest first."""

    pending_logins: tuple[PendingLoginView, ...]


def find_pending(context: AdminContext, login_id: str) -> PendingLogin:
    """Raises NotFound once it is answered or too old."""
    return commands.pending_login(context.coordinator.tailnet, context.clock.unix_time(), login_id)


async def list_pending(call: Call) -> PendingLoginList:
    """GET all that still wait."""
    context = call.context
    now, server_url = context.clock.unix_time(), context.config.server_url
    waiting = [login for login in context.coordinator.tailnet.pending_logins.values() if login.expires_unix_s > now]
    return PendingLoginList(tuple(pending_login_view(login, server_url=server_url) for login in waiting))


async def approve(call: Call) -> Device:
    """POST: the device joins as the caller's."""
    context = call.context
    node = await approve_login(context, call.parameter("login_id"), call.who)
    return device_view(context.coordinator.tailnet, node, regions=context.regions, is_complete=True)


async def refuse(call: Call) -> None:
    """POST: the device is told, and cannot ask again for some minutes."""
    await refuse_login(call.context, call.parameter("login_id"), call.who)


async def approve_login(context: AdminContext, login_id: str, caller: Caller) -> TailnetNode:
    """Let a waiting device in. Raises NotFound, Forbidden, Invalid, Conflict."""
    return await context.apply(partial(commands.approve_login, login_id=login_id, user_id=caller.user_id), caller)


async def refuse_login(context: AdminContext, login_id: str, caller: Caller) -> None:
    """Turn a waiting device away. Raises NotFound."""
    await context.apply(partial(commands.refuse_login, login_id=login_id), caller)


OPERATIONS = (
    Operation(
        "GET", "/v2/tailnet/{tailnet}/pending-logins", list_pending, "listPendingLogins", "Pending logins",
        "Devices that ask to join.", answer=PendingLoginList, errors=(404,), is_extension=True,
    ),
    Operation(
        "POST", "/v2/tailnet/{tailnet}/pending-logins/{login_id}/approve", approve, "approvePendingLogin",
        "Pending logins", "Let a device join as the caller's.",
        Access.WRITE, answer=Device, errors=(404, 409), is_extension=True,
    ),
    Operation(
        "POST", "/v2/tailnet/{tailnet}/pending-logins/{login_id}/refuse", refuse, "refusePendingLogin",
        "Pending logins", "Turn a device away.", Access.WRITE, errors=(404,), is_extension=True,
    ),
)  # fmt: skip
