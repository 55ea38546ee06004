"""API tokens: create, check, revoke."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from tailbox.coord.core.auth_keys import Created, check_description, check_lifetime
from tailbox.coord.core.change import NO_CHANGE, Change, Event, Outcome, TargetKind
from tailbox.coord.core.credentials import API_TOKEN_PREFIX, matches, new_credential, parse_credential
from tailbox.coord.core.records import DAY_S, ApiToken
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Forbidden, Unauthorized
from tailbox.randomness import RandomSource

MAX_LIFETIME_S = 90 * DAY_S  # API v2: 1 to 90 days


def create_api_token(
    tailnet: Tailnet,
    now_unix_s: float,
    *,
    user_id: int,
    random: RandomSource,
    description: str = "",
    lifetime_s: float | None = MAX_LIFETIME_S,
    scopes: Collection[str] = ("all",),
) -> Outcome[Created]:
    """A lifetime of None (no end) is for the coordinator's own machine. Raises NotFound, Forbidden, Invalid."""
    if not tailnet.user(user_id).is_active:
        raise Forbidden("the user is suspended")
    if lifetime_s is not None:
        check_lifetime(lifetime_s, MAX_LIFETIME_S)
    check_description(description)
    new = new_credential(API_TOKEN_PREFIX, random=random)
    token = ApiToken(
        id=new.id,
        secret_hash=new.secret_hash,
        user_id=user_id,
        description=description,
        created_unix_s=now_unix_s,
        expires_unix_s=None if lifetime_s is None else now_unix_s + lifetime_s,
        scopes=tuple(scopes),
    )
    return Outcome(tailnet.with_api_token(token), _change(token, "CREATE"), Created(new.id, new.text))


def revoke_api_token(tailnet: Tailnet, now_unix_s: float, *, token_id: str) -> Outcome[None]:
    """Effective at once. Revoking twice changes nothing. Raises NotFound."""
    token = tailnet.api_token(token_id)
    if token.revoked_unix_s is not None:
        return Outcome(tailnet, NO_CHANGE, None)
    token = msgspec.structs.replace(token, revoked_unix_s=now_unix_s)
    return Outcome(tailnet.with_api_token(token), _change(token, "REVOKE"), None)


def authenticate(tailnet: Tailnet, now_unix_s: float, text: str) -> ApiToken:
    """The token that a text proves. Raises Unauthorized, and says no more, for everything that is not usable."""
    parsed = parse_credential(API_TOKEN_PREFIX, text)
    token = tailnet.api_tokens.get(parsed[0]) if parsed is not None else None
    if parsed is None or token is None or not matches(token, parsed[1]):
        raise Unauthorized("API token invalid")
    user = tailnet.users.get(token.user_id)
    if token.revoked_unix_s is not None or token.is_expired(now_unix_s) or user is None or not user.is_active:
        raise Unauthorized("API token invalid")
    return token


def _change(token: ApiToken, action: str) -> Change:
    event = Event(TargetKind.API_KEY, action, target_id=token.id, target_name=token.description)
    return Change(api_tokens=frozenset({token.id}), events=(event,))
