"""The whole REST API: the one table from which routes and the OpenAPI document are made."""

from __future__ import annotations

from tailbox.coord.admin import audit, devices, events, keys, pending_logins, settings, users
from tailbox.coord.admin.operation import Operation

OPERATIONS: tuple[Operation, ...] = (
    *devices.OPERATIONS,
    *keys.OPERATIONS,
    *users.OPERATIONS,
    *settings.OPERATIONS,
    *pending_logins.OPERATIONS,
    *events.OPERATIONS,
    *audit.OPERATIONS,
)
