"""Logins that wait for a person: a bounded cache of 15 minutes, oldest dropped first.

It lives in memory: a restarted coordinator answers a followup with a fresh URL. A login is fixed to the machine and
node key that asked, so a stolen link can approve that very device and no other. Clients ask again by themselves, so who
was refused hears it for some minutes before a new login begins. Source: control reference §5.2, §5.7.
"""

from __future__ import annotations

from tailbox.coord.core.change import NO_CHANGE, Change, Outcome
from tailbox.coord.core.enrolment import Enrolment, enrol
from tailbox.coord.core.hostinfo import bounded_hostinfo
from tailbox.coord.core.records import PendingLogin, TailnetNode
from tailbox.coord.core.tags import TagPermission, check_tags, roles_only
from tailbox.coord.core.tailnet import Applicant, Tailnet
from tailbox.errors import Forbidden, NotFound
from tailbox.randomness import RandomSource
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.control.registration import RegisterRequest
from tailbox.wire.keys import MachinePublicKey

LIFETIME_S = 15 * 60.0  # headscale: registration cache
MAX_PENDING = 1024  # headscale
REFUSED_S = 5 * 60.0  # ours: how long a refusal holds
MAX_REFUSED = 1024  # ours: as many as can wait; the oldest refusal is forgotten first
ID_BYTES = 16


def pending_login(tailnet: Tailnet, now_unix_s: float, login_id: str) -> PendingLogin:
    """Raises NotFound: unknown, decided, or too old."""
    login = tailnet.pending_logins.get(login_id)
    if login is None or login.expires_unix_s <= now_unix_s:
        raise NotFound("this login is unknown, was decided, or is too old")
    return login


def begin_login(
    tailnet: Tailnet,
    now_unix_s: float,
    *,
    request: RegisterRequest,
    machine_key: MachinePublicKey,
    random: RandomSource,
) -> Outcome[PendingLogin]:
    """Remember a registration until somebody decides. The same device asking again keeps its login."""
    for login in tailnet.pending_logins.values():
        if (login.machine_key, login.node_key) == (machine_key, request.node_key) and login.expires_unix_s > now_unix_s:
            return Outcome(tailnet, NO_CHANGE, login)
    login = PendingLogin(
        id=random.bytes(ID_BYTES).hex(),
        machine_key=machine_key,
        node_key=request.node_key,
        old_node_key=request.old_node_key,
        lock_key=request.nl_key,
        hostinfo=bounded_hostinfo(request.hostinfo or Hostinfo()),
        capability_version=request.version,
        is_ephemeral=request.ephemeral,
        created_unix_s=now_unix_s,
        expires_unix_s=now_unix_s + LIFETIME_S,
    )
    dropped = _too_old(tailnet, now_unix_s)
    kept = [login_id for login_id in tailnet.pending_logins if login_id not in dropped]
    dropped |= frozenset(kept[: max(0, len(kept) + 1 - MAX_PENDING)])
    after = tailnet.without_pending_logins(dropped).with_pending_login(login)
    return Outcome(after, Change(pending_logins=dropped | {login.id}), login)


def approve_login(
    tailnet: Tailnet,
    now_unix_s: float,
    *,
    login_id: str,
    user_id: int,
    may_tag: TagPermission = roles_only,
) -> Outcome[TailnetNode]:
    """Make the device the user's; with RequestTags it becomes tagged instead.

    Raises NotFound, Forbidden (suspended user, tags), Invalid (tags), Conflict (key of another machine).
    """
    login, user = pending_login(tailnet, now_unix_s, login_id), tailnet.user(user_id)
    if not user.is_active:
        raise Forbidden("the user is suspended")
    tags = check_tags(login.hostinfo.request_tags)
    denied = [tag for tag in tags if not may_tag(user, tag)]
    if denied:
        raise Forbidden(f"requested tags {denied} are invalid or not permitted")
    enrolment = Enrolment(
        machine_key=login.machine_key,
        node_key=login.node_key,
        old_node_key=login.old_node_key,
        lock_key=login.lock_key,
        hostinfo=login.hostinfo,
        capability_version=login.capability_version,
        user_id=user_id,
        tags=tags,
        is_ephemeral=login.is_ephemeral,
        is_authorized=not tailnet.settings.is_device_approval_on,
    )
    outcome = enrol(tailnet, now_unix_s, enrolment)
    change = outcome.change.merge(Change(pending_logins=frozenset({login_id})))
    return Outcome(outcome.tailnet.without_pending_logins((login_id,)), change, outcome.result)


def refuse_login(tailnet: Tailnet, now_unix_s: float, *, login_id: str) -> Outcome[None]:
    """Turn the machine away: it is told so for REFUSED_S, and can ask again then. Raises NotFound."""
    login = pending_login(tailnet, now_unix_s, login_id)
    kept = [(who, until) for who, until in tailnet.refused_logins.items() if until > now_unix_s]
    refused = dict(kept[-(MAX_REFUSED - 1) :])
    refused[login.machine_key, login.node_key] = now_unix_s + REFUSED_S
    after = tailnet.without_pending_logins((login_id,)).with_refused_logins(refused)
    return Outcome(after, Change(pending_logins=frozenset({login_id})), None)


def is_refused(tailnet: Tailnet, now_unix_s: float, applicant: Applicant) -> bool:
    """Whether somebody turned this machine and node key away a short while ago."""
    return tailnet.refused_logins.get(applicant, 0.0) > now_unix_s


def drop_old_logins(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
    """Forget what nobody decided in time."""
    old = _too_old(tailnet, now_unix_s)
    if not old:
        return Outcome(tailnet, NO_CHANGE, None)
    return Outcome(tailnet.without_pending_logins(old), Change(pending_logins=old), None)


def _too_old(tailnet: Tailnet, now_unix_s: float) -> frozenset[str]:
    return frozenset(login.id for login in tailnet.pending_logins.values() if login.expires_unix_s <= now_unix_s)


def logins_of(tailnet: Tailnet, key: MachinePublicKey) -> frozenset[str]:
    """Whatever a machine waits for."""
    return frozenset(login.id for login in tailnet.pending_logins.values() if login.machine_key == key)


def login_for(tailnet: Tailnet, now_unix_s: float, login_id: str, key: MachinePublicKey) -> PendingLogin | None:
    """The undecided login that a followup of this machine means."""
    login = tailnet.pending_logins.get(login_id)
    return login if login is not None and login.machine_key == key and login.expires_unix_s > now_unix_s else None
