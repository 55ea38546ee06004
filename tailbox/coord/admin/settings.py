"""The tailnet's settings, in the shape of `/tailnet/{t}/settings`. Source: api-and-console reference §10.

What Tailbox does not have yet is shown at its fixed value and cannot be changed: asking for it is a 400, no silent yes.
"""

from __future__ import annotations

import msgspec

from tailbox.coord.admin.operation import Access, AnswerStruct, Call, Operation, RequestStruct
from tailbox.coord.core import settings as commands
from tailbox.coord.core.change import Outcome
from tailbox.coord.core.tailnet import Tailnet


class TailnetSettings(AnswerStruct, frozen=True):
    """What there is to set."""

    devices_approval_on: bool
    devices_key_duration_days: int
    acls_externally_managed_on: bool = False
    devices_auto_updates_on: bool = False
    users_approval_on: bool = False
    network_flow_logging_on: bool = False
    regional_routing_on: bool = False
    posture_identity_collection_on: bool = False
    https_enabled: bool = False


class ChangeSettings(RequestStruct, frozen=True):
    """A partial update: absent and null members stay as they are."""

    devices_approval_on: bool | None = None
    devices_key_duration_days: int | None = None


def settings_view(tailnet: Tailnet) -> TailnetSettings:
    """The present settings."""
    return TailnetSettings(
        devices_approval_on=tailnet.settings.is_device_approval_on,
        devices_key_duration_days=tailnet.settings.key_duration_days,
    )


async def get_settings(call: Call) -> TailnetSettings:
    """GET."""
    return settings_view(call.context.coordinator.tailnet)


async def change_settings(call: Call) -> TailnetSettings:
    """PATCH: what is given, at once."""
    wanted = call.body(ChangeSettings)

    def command(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
        before = tailnet.settings
        approval, days = wanted.devices_approval_on, wanted.devices_key_duration_days
        after = msgspec.structs.replace(
            before,
            is_device_approval_on=before.is_device_approval_on if approval is None else approval,
            key_duration_days=before.key_duration_days if days is None else days,
        )
        return commands.update_settings(tailnet, now_unix_s, settings=after)

    await call.apply(command)
    return settings_view(call.context.coordinator.tailnet)


OPERATIONS = (
    Operation(
        "GET", "/v2/tailnet/{tailnet}/settings", get_settings, "getTailnetSettings", "Settings",
        "The tailnet's settings.", answer=TailnetSettings, errors=(404,),
    ),
    Operation(
        "PATCH", "/v2/tailnet/{tailnet}/settings", change_settings, "updateTailnetSettings", "Settings",
        "Change some settings.", Access.WRITE, ChangeSettings, TailnetSettings, errors=(404,),
    ),
)  # fmt: skip
