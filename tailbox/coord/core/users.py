"""Users: create, change role, suspend, restore, delete. Exactly one owner at any time, once there is one."""

from __future__ import annotations

from functools import reduce

import msgspec

from tailbox.coord.core.change import NO_CHANGE, Change, Event, Outcome, TargetKind
from tailbox.coord.core.devices import removal
from tailbox.coord.core.records import Role, User, UserStatus
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Conflict, Invalid

LOCAL_ISSUER = "local"  # accounts of our own; those of an identity provider carry its URL
MAX_NAME_CHARACTERS = 254


def create_user(
    tailnet: Tailnet,
    now_unix_s: float,
    *,
    login_name: str,
    display_name: str = "",
    role: Role = Role.MEMBER,
    issuer: str = LOCAL_ISSUER,
    subject: str | None = None,
    profile_pic_url: str = "",
) -> Outcome[User]:
    """The first user becomes the owner. Raises Conflict if the identity or the login name exists, Invalid for names."""
    identity = (issuer, login_name if subject is None else subject)
    for text in (login_name, *identity):
        if not text or len(text) > MAX_NAME_CHARACTERS or not text.isprintable():
            raise Invalid(f"not a login name: {text[:80]!r}")
    if tailnet.user_by_identity(*identity) is not None or tailnet.user_by_login(login_name) is not None:
        raise Conflict(f"the user {login_name!r} exists")
    if role is Role.OWNER and tailnet.users:
        raise Conflict("there is an owner already: transfer the role")
    counters = msgspec.structs.replace(tailnet.counters, user=tailnet.counters.user + 1)
    user = User(
        id=counters.user,
        issuer=issuer,
        subject=identity[1],
        login_name=login_name,
        display_name=display_name or login_name,
        profile_pic_url=profile_pic_url,
        role=role if tailnet.users else Role.OWNER,
        created_unix_s=now_unix_s,
    )
    change = Change(users=frozenset({user.id}), has_counters=True, events=(_event(user, "CREATE"),))
    return Outcome(tailnet.with_counters(counters).with_user(user), change, user)


def set_role(tailnet: Tailnet, now_unix_s: float, *, user_id: int, role: Role) -> Outcome[User]:
    """Naming a new owner makes the former one an administrator. Raises NotFound; Conflict for demoting the owner."""
    user = tailnet.user(user_id)
    if user.role is role:
        return Outcome(tailnet, NO_CHANGE, user)
    if user.role is Role.OWNER:
        raise Conflict("the tailnet needs an owner: name another one first")
    changed = [msgspec.structs.replace(user, role=role)]
    if role is Role.OWNER:
        changed += [
            msgspec.structs.replace(owner, role=Role.ADMIN)
            for owner in tailnet.users.values()
            if owner.role is Role.OWNER
        ]
    change = Change(
        users=frozenset(item.id for item in changed),
        events=tuple(_event(item, "UPDATE", "USER_ROLE") for item in changed),
    )
    return Outcome(reduce(Tailnet.with_user, changed, tailnet), change, changed[0])


def suspend_user(tailnet: Tailnet, now_unix_s: float, *, user_id: int) -> Outcome[User]:
    """Sessions, tokens and keys of the user stop working; nodes stay. Raises NotFound; Conflict for the owner."""
    return _set_status(tailnet, user_id, UserStatus.SUSPENDED, "SUSPEND")


def restore_user(tailnet: Tailnet, now_unix_s: float, *, user_id: int) -> Outcome[User]:
    """The opposite of suspending. Raises NotFound."""
    return _set_status(tailnet, user_id, UserStatus.ACTIVE, "RESTORE")


def delete_user(tailnet: Tailnet, now_unix_s: float, *, user_id: int) -> Outcome[None]:
    """With all untagged nodes; keys and tokens are revoked. Raises NotFound; Conflict for the owner."""
    user = tailnet.user(user_id)
    if user.role is Role.OWNER:
        raise Conflict("the owner cannot be deleted: name another one first")
    change = Change(users=frozenset({user_id}), events=(_event(user, "DELETE"),))
    after = tailnet
    for node in tailnet.nodes.values():
        if node.user_id == user_id and not node.is_tagged:
            removed = removal(after, node, "DELETE")
            after, change = removed.tailnet, removed.change.merge(change)
    for key in tailnet.auth_keys.values():
        if key.user_id == user_id and key.revoked_unix_s is None:
            after = after.with_auth_key(msgspec.structs.replace(key, revoked_unix_s=now_unix_s))
            change = Change(auth_keys=frozenset({key.id})).merge(change)
    for token in tailnet.api_tokens.values():
        if token.user_id == user_id and token.revoked_unix_s is None:
            after = after.with_api_token(msgspec.structs.replace(token, revoked_unix_s=now_unix_s))
            change = Change(api_tokens=frozenset({token.id})).merge(change)
    return Outcome(after.without_user(user_id), change, None)


def _set_status(tailnet: Tailnet, user_id: int, status: UserStatus, action: str) -> Outcome[User]:
    user = tailnet.user(user_id)
    if user.status is status:
        return Outcome(tailnet, NO_CHANGE, user)
    if user.role is Role.OWNER:
        raise Conflict("the owner cannot be suspended: name another one first")
    user = msgspec.structs.replace(user, status=status)
    change = Change(users=frozenset({user_id}), events=(_event(user, action),))
    return Outcome(tailnet.with_user(user), change, user)


def _event(user: User, action: str, aspect: str = "") -> Event:
    return Event(TargetKind.USER, action, aspect, target_id=str(user.id), target_name=user.login_name)
