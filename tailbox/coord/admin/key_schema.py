"""Keys as the REST API shows them. Source: Tailscale OpenAPI v2, schema `Key`; api-and-console reference §6."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from tailbox.coord.admin.operation import AnswerStruct, RequestStruct


class RequestedDeviceCreate(RequestStruct, frozen=True):
    """What a new auth key lets devices do."""

    reusable: bool = False
    ephemeral: bool = False
    preauthorized: bool = False
    tags: tuple[str, ...] | None = None


class RequestedDevices(RequestStruct, frozen=True):
    """The only kind of capability that keys have."""

    create: RequestedDeviceCreate = RequestedDeviceCreate()


class RequestedCapabilities(RequestStruct, frozen=True):
    """What a new auth key is good for."""

    devices: RequestedDevices = RequestedDevices()


class CreateKey(RequestStruct, frozen=True):
    """Make an auth key or an API access token.

    `keyType` `api` is Tailbox's own: the hosted service makes API tokens in its console only. `expirySeconds` absent or
    0 means 90 days, which is the most.
    """

    key_type: Literal["", "auth", "api"] = "auth"
    capabilities: RequestedCapabilities | None = None
    expiry_seconds: int | None = None
    description: str | None = None


class DeviceCreate(AnswerStruct, frozen=True):
    """What an auth key lets devices do."""

    reusable: bool
    ephemeral: bool
    preauthorized: bool
    tags: tuple[str, ...] | UnsetType = UNSET


class DeviceCapabilities(AnswerStruct, frozen=True):
    """Wrapper of the upstream shape."""

    create: DeviceCreate


class Capabilities(AnswerStruct, frozen=True):
    """Wrapper of the upstream shape."""

    devices: DeviceCapabilities


class Key(AnswerStruct, frozen=True):
    """An auth key or an API token. `key`, the secret, appears once: in the answer to its creation."""

    id: str
    key_type: str
    description: str
    expiry_seconds: int
    created: str
    expires: str
    user_id: str
    invalid: bool
    key: str | UnsetType = UNSET
    revoked: str | UnsetType = UNSET
    capabilities: Capabilities | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET


class KeyList(AnswerStruct, frozen=True):
    """Keys without their secrets."""

    keys: tuple[Key, ...]
