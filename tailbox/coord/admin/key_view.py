"""From a stored credential to the key that the REST API shows: everything but the secret."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from tailbox.coord.admin.device_view import ZERO_TIME, api_time
from tailbox.coord.admin.key_schema import Capabilities, DeviceCapabilities, DeviceCreate, Key
from tailbox.coord.core.records import ApiToken, AuthKey


def key_view(key: AuthKey | ApiToken, *, now_unix_s: float, secret: str | None = None) -> Key:
    """The key. A used one-time key counts as invalid, as an expired or revoked one does."""
    is_spent = isinstance(key, AuthKey) and key.is_exhausted
    lifetime_s = 0.0 if key.expires_unix_s is None else int(key.expires_unix_s) - int(key.created_unix_s)
    return Key(
        id=key.id,
        key_type="auth" if isinstance(key, AuthKey) else "api",
        description=key.description,
        expiry_seconds=int(lifetime_s),
        created=api_time(key.created_unix_s),
        expires=ZERO_TIME if key.expires_unix_s is None else api_time(key.expires_unix_s),
        user_id=str(key.user_id),
        invalid=key.revoked_unix_s is not None or key.is_expired(now_unix_s) or is_spent,
        key=UNSET if secret is None else secret,
        revoked=UNSET if key.revoked_unix_s is None else api_time(key.revoked_unix_s),
        capabilities=_capabilities(key) if isinstance(key, AuthKey) else UNSET,
        tags=_tags(key),
    )


def _tags(key: AuthKey | ApiToken) -> tuple[str, ...] | UnsetType:
    return key.tags or UNSET if isinstance(key, AuthKey) else UNSET


def _capabilities(key: AuthKey) -> Capabilities:
    create = DeviceCreate(
        reusable=key.is_reusable,
        ephemeral=key.is_ephemeral,
        preauthorized=key.is_preauthorized,
        tags=_tags(key),
    )
    return Capabilities(DeviceCapabilities(create))
