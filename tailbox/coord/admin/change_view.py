"""What changed, as the event stream tells it: which nouns, which ids, and what they look like now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import UNSET, UnsetType

from tailbox.coord.admin.device_schema import Device
from tailbox.coord.admin.device_view import api_time, device_view
from tailbox.coord.admin.key_schema import Key
from tailbox.coord.admin.key_view import key_view
from tailbox.coord.admin.operation import AnswerStruct
from tailbox.coord.admin.pending_login_view import PendingLoginView, pending_login_view
from tailbox.coord.admin.settings import TailnetSettings, settings_view
from tailbox.coord.admin.users import UserView, user_view
from tailbox.coord.core.change import Change
from tailbox.coord.core.tailnet import Tailnet, stable_id_of


class Changed(AnswerStruct, frozen=True):
    """One thing that changed. The member named like the noun shows it as it is now; a deleted thing has none."""

    noun: Literal["device", "user", "key", "pendingLogin", "settings"]
    id: str
    deleted: bool = False
    device: Device | UnsetType = UNSET
    user: UserView | UnsetType = UNSET
    key: Key | UnsetType = UNSET
    pending_login: PendingLoginView | UnsetType = UNSET
    settings: TailnetSettings | UnsetType = UNSET


class ChangeEvent(AnswerStruct, frozen=True):
    """One message of the event stream. `sequence` is the journal's, and the event's id."""

    sequence: int
    time: str
    changes: tuple[Changed, ...]


def change_event(
    tailnet: Tailnet,
    change: Change,
    *,
    sequence: int,
    now_unix_s: float,
    server_url: str,
    regions: Mapping[int, str],
) -> ChangeEvent:
    """The event for a change; several changes merged give one event with the newest state."""
    changes = (
        *_devices(tailnet, change, regions),
        *_users(tailnet, change),
        *_keys(tailnet, change, now_unix_s),
        *_pending_logins(tailnet, change, server_url),
        *_settings(tailnet, change),
    )
    return ChangeEvent(sequence, api_time(now_unix_s), changes)


def _devices(tailnet: Tailnet, change: Change, regions: Mapping[int, str]) -> Iterator[Changed]:
    for node_id in sorted(change.nodes):
        node = tailnet.nodes.get(node_id)
        shown = UNSET if node is None else device_view(tailnet, node, regions=regions, is_complete=True)
        yield Changed("device", stable_id_of(node_id), deleted=node is None, device=shown)


def _users(tailnet: Tailnet, change: Change) -> Iterator[Changed]:
    for user_id in sorted(change.users):
        user = tailnet.users.get(user_id)
        yield Changed(
            "user", str(user_id), deleted=user is None, user=UNSET if user is None else user_view(tailnet, user)
        )


def _keys(tailnet: Tailnet, change: Change, now_unix_s: float) -> Iterator[Changed]:
    for key_id in sorted(change.auth_keys | change.api_tokens):
        key = tailnet.auth_keys.get(key_id) or tailnet.api_tokens.get(key_id)
        shown = UNSET if key is None else key_view(key, now_unix_s=now_unix_s)
        yield Changed("key", key_id, deleted=key is None, key=shown)


def _pending_logins(tailnet: Tailnet, change: Change, server_url: str) -> Iterator[Changed]:
    for login_id in sorted(change.pending_logins):
        login = tailnet.pending_logins.get(login_id)
        shown = UNSET if login is None else pending_login_view(login, server_url=server_url)
        yield Changed("pendingLogin", login_id, deleted=login is None, pending_login=shown)


def _settings(tailnet: Tailnet, change: Change) -> Iterator[Changed]:
    if change.has_settings:
        yield Changed("settings", tailnet.settings.tailnet_name, settings=settings_view(tailnet))
