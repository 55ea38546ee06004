"""A login that waits for somebody, as the REST API, the console and the approval page show it. Pure."""

from __future__ import annotations

from tailbox.coord.admin.device_view import api_time
from tailbox.coord.admin.operation import AnswerStruct
from tailbox.coord.core.records import PendingLogin


class PendingLoginView(AnswerStruct, frozen=True):
    """A device that asks to join."""

    id: str
    hostname: str
    os: str
    client_version: str
    machine_key: str
    node_key: str
    is_ephemeral: bool
    tags: tuple[str, ...]
    created: str
    expires: str
    url: str


def login_path(login_id: str) -> str:
    """Where the page of a pending login is."""
    return f"/login/{login_id}"


def pending_login_view(login: PendingLogin, *, server_url: str) -> PendingLoginView:
    """What a person has to know to decide."""
    info = login.hostinfo
    return PendingLoginView(
        id=login.id,
        hostname=info.hostname,
        os=" ".join(part for part in (info.os, info.os_version) if part),
        client_version=info.ipn_version,
        machine_key=login.machine_key.text,
        node_key=login.node_key.text,
        is_ephemeral=login.is_ephemeral,
        tags=info.request_tags,
        created=api_time(login.created_unix_s),
        expires=api_time(login.expires_unix_s),
        url=server_url.rstrip("/") + login_path(login.id),
    )
