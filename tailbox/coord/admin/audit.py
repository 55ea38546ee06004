"""The configuration audit log, read from the journal. Source: api-and-console reference §13, §13.1.

`start` and `end` are RFC 3339, both included. Filters by actor, target and event are for a later version; of a span
with more than MAX_ENTRIES entries the newest are told.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tailbox.coord.admin.device_view import ZERO_TIME, api_time
from tailbox.coord.admin.operation import AnswerStruct, Call, Operation, QueryParameter
from tailbox.coord.store.audit_log import AuditRecord, audit_records
from tailbox.errors import Invalid, Malformed
from tailbox.wire.control.timestamp import Timestamp

MAX_ENTRIES = 10_000  # ours: journal entries of one answer
AuditDocument = Mapping[str, Mapping[str, Mapping[str, object]]]  # table → key → members


class AuditActor(AnswerStruct, frozen=True):
    """Who did it."""

    id: str
    type: str
    login_name: str
    display_name: str


class AuditTarget(AnswerStruct, frozen=True):
    """What it was done to."""

    id: str
    name: str
    type: str
    property: str = ""


class AuditEntry(AnswerStruct, frozen=True):
    """One line of the log. `old` and `new` hold the rows that changed."""

    event_time: str
    type: str
    deferred_at: str
    event_group_id: str = msgspec.field(name="eventGroupID")
    origin: str
    actor: AuditActor
    target: AuditTarget
    action: str
    old: AuditDocument
    new: AuditDocument


class AuditLog(AnswerStruct, frozen=True):
    """The envelope. The tailnet is named twice: upstream's document and its pages disagree."""

    version: str
    tailnet: str
    tailnet_id: str
    logs: tuple[AuditEntry, ...]


async def read_audit_log(call: Call) -> AuditLog:
    """GET the records of a span of time, oldest first."""
    coordinator = call.context.coordinator
    start, end = _time(call, "start"), _time(call, "end")
    records = audit_records(await coordinator.audit(start, end, limit=MAX_ENTRIES))
    name = coordinator.tailnet.settings.tailnet_name
    return AuditLog("1.1", name, name, tuple(_entry(record) for record in records))


def _time(call: Call, name: str) -> float:
    try:
        return Timestamp.parse(call.request.query_params.get(name, "")).unix_s
    except Malformed:
        raise Invalid(f"{name} must be an RFC 3339 time such as 2026-01-02T03:04:05Z") from None


def _entry(record: AuditRecord) -> AuditEntry:
    actor, event = record.actor, record.event
    return AuditEntry(
        event_time=api_time(record.at_unix_s),
        type="CONFIG",
        deferred_at=ZERO_TIME,
        event_group_id=record.group,
        origin=actor.origin,
        actor=AuditActor(actor.id, actor.kind, actor.name, actor.name),
        target=AuditTarget(event.target_id, event.target_name, event.kind.value, event.aspect),
        action=event.action,
        old=record.before,
        new=record.after,
    )


OPERATIONS = (
    Operation(
        "GET", "/v2/tailnet/{tailnet}/logging/configuration", read_audit_log, "listConfigurationAuditLogs", "Logging",
        "Who changed what, when.", answer=AuditLog, errors=(404,),
        query=(
            QueryParameter("start", "RFC 3339; included."), QueryParameter("end", "RFC 3339; included."),
        ),
    ),
)  # fmt: skip
