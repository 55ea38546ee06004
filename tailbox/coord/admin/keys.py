"""Auth keys and API tokens. Source: Tailscale OpenAPI v2; api-and-console reference §6.

API tokens of 1 to 90 days can be made here too, which the hosted service leaves to its console.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial

from tailbox.coord.admin.key_schema import CreateKey, Key, KeyList, RequestedDeviceCreate
from tailbox.coord.admin.key_view import key_view
from tailbox.coord.admin.operation import Access, Call, Operation, QueryParameter
from tailbox.coord.core import api_tokens, auth_keys
from tailbox.coord.core.records import ApiToken, AuthKey
from tailbox.coord.core.tags import roles_only
from tailbox.errors import Invalid, NotFound

DAY_S = 86_400
MAX_LIFETIME_S = 90 * DAY_S  # upstream's default and limit
DESCRIPTION = re.compile(r"[A-Za-z0-9 \-]{0,50}")


def checked_lifetime_s(expiry_seconds: int | None, *, least_s: int) -> int:
    """`least_s` to 90 days; absent or 0 is 90. Raises Invalid."""
    lifetime_s = expiry_seconds or MAX_LIFETIME_S
    if not least_s <= lifetime_s <= MAX_LIFETIME_S:
        raise Invalid(f"expirySeconds must be between {least_s} and {MAX_LIFETIME_S}")
    return lifetime_s


def check_tag_right(call: Call, tags: Collection[str]) -> None:
    """Raises Invalid, as upstream does, for tags that the caller may not use."""
    user = call.context.coordinator.tailnet.user(call.who.user_id)
    for tag in tags:
        if not roles_only(user, tag):
            raise Invalid(f"requested tags [{tag[:80]}] are invalid or not permitted")


def checked_description(text: str | None) -> str:
    """Up to 50 letters, digits, blanks and hyphens. Raises Invalid."""
    if not DESCRIPTION.fullmatch(text or ""):
        raise Invalid("description must be at most 50 letters, digits, blanks and hyphens")
    return text or ""


async def list_keys(call: Call) -> KeyList:
    """GET the caller's keys; with `all=true` everybody's."""
    tailnet, now = call.context.coordinator.tailnet, call.context.clock.unix_time()
    wants_all = call.request.query_params.get("all", "false").lower() == "true"
    keys: list[AuthKey | ApiToken] = [*tailnet.auth_keys.values(), *tailnet.api_tokens.values()]
    chosen = sorted(
        (key for key in keys if wants_all or key.user_id == call.who.user_id), key=lambda key: key.created_unix_s
    )
    return KeyList(tuple(key_view(key, now_unix_s=now) for key in chosen))


async def create_key(call: Call) -> Key:
    """POST: make a key. The answer has its secret, once."""
    wanted = call.body(CreateKey)
    description = checked_description(wanted.description)
    if wanted.key_type == "api":
        if wanted.capabilities is not None:
            raise Invalid("an API token has no device capabilities")
        return await _create_api_token(call, wanted.expiry_seconds, description)
    capabilities = wanted.capabilities
    create = capabilities.devices.create if capabilities is not None else RequestedDeviceCreate()
    return await _create_auth_key(call, create, wanted.expiry_seconds, description)


async def _create_auth_key(
    call: Call, create: RequestedDeviceCreate, expiry_seconds: int | None, description: str
) -> Key:
    tags = create.tags or ()
    check_tag_right(call, tags)
    created = await call.apply(
        partial(
            auth_keys.create_auth_key,
            user_id=call.who.user_id,
            random=call.context.random,
            description=description,
            # Terraform's examples and tests make keys of an hour, which the hosted service accepts.
            lifetime_s=checked_lifetime_s(expiry_seconds, least_s=1),
            is_reusable=create.reusable,
            is_ephemeral=create.ephemeral,
            is_preauthorized=create.preauthorized,
            tags=tags,
        )
    )
    return _shown_once(call, created)


async def _create_api_token(call: Call, expiry_seconds: int | None, description: str) -> Key:
    created = await call.apply(
        partial(
            api_tokens.create_api_token,
            user_id=call.who.user_id,
            random=call.context.random,
            description=description,
            lifetime_s=checked_lifetime_s(expiry_seconds, least_s=DAY_S),
        )
    )
    return _shown_once(call, created)


def _shown_once(call: Call, created: auth_keys.Created) -> Key:
    key = _key(call, created.id)
    return key_view(key, now_unix_s=call.context.clock.unix_time(), secret=created.text)


async def get_key(call: Call) -> Key:
    """GET one, revoked and expired ones included."""
    return key_view(_find(call), now_unix_s=call.context.clock.unix_time())


async def delete_key(call: Call) -> None:
    """DELETE: revoke. The object stays readable."""
    key = _find(call)
    if isinstance(key, AuthKey):
        await call.apply(partial(auth_keys.revoke_auth_key, key_id=key.id))
    else:
        await call.apply(partial(api_tokens.revoke_api_token, token_id=key.id))


def _find(call: Call) -> AuthKey | ApiToken:
    return _key(call, call.parameter("key_id"))


def _key(call: Call, key_id: str) -> AuthKey | ApiToken:
    tailnet = call.context.coordinator.tailnet
    key = tailnet.auth_keys.get(key_id) or tailnet.api_tokens.get(key_id)
    if key is None:
        raise NotFound("key not found")
    return key


OPERATIONS = (
    Operation(
        "GET", "/v2/tailnet/{tailnet}/keys", list_keys, "listTailnetKeys", "Keys", "List keys, without secrets.",
        answer=KeyList, query=(QueryParameter("all", "`true`: keys of every user.", "boolean"),), errors=(404,),
    ),
    Operation(
        "POST", "/v2/tailnet/{tailnet}/keys", create_key, "createKey", "Keys",
        "Make an auth key or an API token; the secret is shown this once.",
        Access.WRITE, CreateKey, Key, errors=(404,),
    ),
    Operation(
        "GET", "/v2/tailnet/{tailnet}/keys/{key_id}", get_key, "getKey", "Keys", "One key, without its secret.",
        answer=Key, errors=(404,),
    ),
    Operation(
        "DELETE", "/v2/tailnet/{tailnet}/keys/{key_id}", delete_key, "deleteKey", "Keys", "Revoke a key.",
        Access.WRITE, errors=(404,),
    ),
)  # fmt: skip
