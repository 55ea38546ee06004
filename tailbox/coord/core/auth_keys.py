"""Auth keys: create, check, revoke. They are spent by registration, in the transaction that makes the node."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from tailbox.coord.core.change import NO_CHANGE, Change, Event, Outcome, TargetKind
from tailbox.coord.core.credentials import AUTH_KEY_PREFIX, matches, new_credential, parse_credential
from tailbox.coord.core.records import AuthKey
from tailbox.coord.core.tags import check_tags
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Forbidden, Invalid
from tailbox.randomness import RandomSource

DEFAULT_LIFETIME_S = 7_776_000  # API v2: 90 days
MAX_LIFETIME_S = 7_776_000
MAX_DESCRIPTION_CHARACTERS = 50  # API v2


@dataclass(frozen=True, slots=True)
class Created:
    """A new auth key or API token; `text` exists nowhere else."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"Created(id={self.id!r})"


def create_auth_key(
    tailnet: Tailnet,
    now_unix_s: float,
    *,
    user_id: int,
    random: RandomSource,
    description: str = "",
    lifetime_s: float = DEFAULT_LIFETIME_S,
    is_reusable: bool = False,
    is_ephemeral: bool = False,
    is_preauthorized: bool = False,
    tags: Collection[str] = (),
) -> Outcome[Created]:
    """Raises NotFound for the user, Forbidden if it is suspended, Invalid for lifetime, tags or description."""
    if not tailnet.user(user_id).is_active:
        raise Forbidden("the user is suspended")
    check_lifetime(lifetime_s, MAX_LIFETIME_S)
    check_description(description)
    new = new_credential(AUTH_KEY_PREFIX, random=random)
    key = AuthKey(
        id=new.id,
        secret_hash=new.secret_hash,
        user_id=user_id,
        description=description,
        created_unix_s=now_unix_s,
        expires_unix_s=now_unix_s + lifetime_s,
        is_reusable=is_reusable,
        is_ephemeral=is_ephemeral,
        is_preauthorized=is_preauthorized,
        tags=check_tags(tags),
    )
    return Outcome(tailnet.with_auth_key(key), _change(key, "CREATE"), Created(new.id, new.text))


def revoke_auth_key(tailnet: Tailnet, now_unix_s: float, *, key_id: str) -> Outcome[None]:
    """From now on the key enrols nobody; nodes stay. Revoking twice changes nothing. Raises NotFound."""
    key = tailnet.auth_key(key_id)
    if key.revoked_unix_s is not None:
        return Outcome(tailnet, NO_CHANGE, None)
    key = msgspec.structs.replace(key, revoked_unix_s=now_unix_s)
    return Outcome(tailnet.with_auth_key(key), _change(key, "REVOKE"), None)


def find_auth_key(tailnet: Tailnet, text: str) -> AuthKey | None:
    """The key that a text proves, usable or not; None for made-up texts and for keys of suspended users."""
    parsed = parse_credential(AUTH_KEY_PREFIX, text)
    key = tailnet.auth_keys.get(parsed[0]) if parsed is not None else None
    if parsed is None or key is None or not matches(key, parsed[1]):
        return None
    user = tailnet.users.get(key.user_id)
    return key if user is not None and user.is_active else None


def refusal_of(key: AuthKey | None, now_unix_s: float) -> str | None:
    """Why a key cannot enrol, in upstream's words; None if it can."""
    if key is None:
        return "invalid pre auth key"
    if key.revoked_unix_s is not None:
        return "authkey revoked"
    if key.is_expired(now_unix_s):
        return "authkey expired"
    return "authkey already used" if key.is_exhausted else None


def spend(tailnet: Tailnet, key: AuthKey) -> Tailnet:
    """Count one use. Only together with the node that it makes."""
    return tailnet.with_auth_key(msgspec.structs.replace(key, uses=key.uses + 1))


def check_lifetime(lifetime_s: float, limit_s: float) -> None:
    """Raises Invalid."""
    if not 1 <= lifetime_s <= limit_s:
        raise Invalid(f"lifetime of {lifetime_s:g} s: wanted 1 to {limit_s:g}")


def check_description(description: str) -> None:
    """Raises Invalid."""
    if len(description) > MAX_DESCRIPTION_CHARACTERS or not description.isprintable():
        raise Invalid(f"a description has at most {MAX_DESCRIPTION_CHARACTERS} printable characters")


def _change(key: AuthKey, action: str) -> Change:
    event = Event(TargetKind.API_KEY, action, target_id=key.id, target_name=key.description)
    return Change(auth_keys=frozenset({key.id}), events=(event,))
