"""POST /machine/register: the server's state machine.

```text
request ─┬─ Expiry in the past ───────────────► logout
         ├─ Followup, undecided ──────────────► same AuthURL, after waiting (`wait_for`)
         ├─ NodeKey of this machine ─┬─ valid ► success, nothing changes
         │                           └─ ended ► renewed by an auth key, else NodeKeyExpired
         ├─ NodeKey of another machine ───────► Error
         ├─ Auth.AuthKey ─┬─ not usable ──────► Error
         │                └─ usable ──────────► node renewed or created, key spent
         ├─ refused by somebody just now ─────► Error
         └─ else ─────────────────────────────► AuthURL
```
Refusals are `Error` in a 200 answer: other statuses make clients retry in silence.
Source: control reference §5.4; headscale hscontrol/auth.go, state/state.go, types/preauth_key.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tailbox.coord.core.auth_keys import find_auth_key, refusal_of, spend
from tailbox.coord.core.change import NO_CHANGE, Change, Outcome
from tailbox.coord.core.devices import expired, node_event, removal
from tailbox.coord.core.enrolment import Enrolment, enrol
from tailbox.coord.core.hostinfo import bounded_hostinfo
from tailbox.coord.core.owners import login_of, user_of
from tailbox.coord.core.pending_logins import begin_login, is_refused, login_for, logins_of
from tailbox.coord.core.records import AuthKey, TailnetNode
from tailbox.coord.core.tags import TagPermission, check_tags, roles_only
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Conflict, Invalid
from tailbox.randomness import RandomSource
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.control.registration import RegisterRequest, RegisterResponse
from tailbox.wire.keys import MachinePublicKey

REQUIRED_TAILNET = "required:"
REFUSED_BY_PERSON = "an administrator refused this machine"


@dataclass(frozen=True, slots=True)
class Answer:
    """What to reply, and whether to hold the reply back."""

    response: RegisterResponse
    wait_for: str | None = None  # an undecided login: hold until it is decided, then ask again; on time-out, reply


@dataclass(frozen=True, slots=True)
class Registrar:
    """What registrations need besides the snapshot. `register` is the command."""

    random: RandomSource
    login_url: Callable[[str], str]  # login identifier → AuthURL whose last path segment is the identifier
    may_tag: TagPermission = roles_only

    def register(
        self, tailnet: Tailnet, now_unix_s: float, *, request: RegisterRequest, machine_key: MachinePublicKey
    ) -> Outcome[Answer]:
        """Never raises for what a client sends: refusals are answers."""
        if request.node_key.is_zero:
            return _refused(tailnet, "a node needs a key: the zero key stands for none")
        node = tailnet.node_by_key(request.node_key)
        if node is not None and node.machine_key != machine_key:
            return _refused(tailnet, "node key is in use by another machine")
        if request.expiry is not None and not request.expiry.is_zero:
            if request.expiry.unix_s > now_unix_s:
                return _refused(tailnet, "extending key is not allowed")
            return _log_out(tailnet, now_unix_s, node)
        if _wants_another_tailnet(tailnet, request.tailnet):
            return _refused(tailnet, f"this is the tailnet {tailnet.settings.tailnet_name}")
        if node is not None and not node.is_expired(now_unix_s):
            return Outcome(tailnet, NO_CHANGE, _success(tailnet, node))
        auth_key = request.auth.auth_key if request.auth is not None else ""
        if auth_key:
            return self._register_by_key(tailnet, now_unix_s, request, machine_key, auth_key)
        if node is not None:
            return Outcome(tailnet, NO_CHANGE, Answer(RegisterResponse(node_key_expired=True)))
        return self._register_by_person(tailnet, now_unix_s, request, machine_key)

    def _register_by_key(
        self, tailnet: Tailnet, now_unix_s: float, request: RegisterRequest, machine_key: MachinePublicKey, text: str
    ) -> Outcome[Answer]:
        key = find_auth_key(tailnet, text)
        refusal = refusal_of(key, now_unix_s)
        if key is None or refusal is not None:
            return _refused(tailnet, refusal or "invalid pre auth key")
        try:
            enrolment = self._enrolment(tailnet, request, machine_key, key)
            outcome = enrol(spend(tailnet, key), now_unix_s, enrolment)
        except (Conflict, Invalid) as error:
            return _refused(tailnet, str(error))
        moot = logins_of(tailnet, machine_key)  # the machine asked a person before it was given a key
        change = outcome.change.merge(Change(auth_keys=frozenset({key.id}), pending_logins=moot))
        after = outcome.tailnet.without_pending_logins(moot)
        return Outcome(after, change, _success(after, outcome.result))

    def _enrolment(
        self, tailnet: Tailnet, request: RegisterRequest, machine_key: MachinePublicKey, key: AuthKey
    ) -> Enrolment:
        """Raises Invalid for tags that neither the key nor its user may give."""
        hostinfo = bounded_hostinfo(request.hostinfo or Hostinfo())
        requested, user = check_tags(hostinfo.request_tags), tailnet.users[key.user_id]
        denied = [tag for tag in requested if tag not in key.tags and not self.may_tag(user, tag)]
        if denied:
            raise Invalid(f"requested tags {denied} are invalid or not permitted")
        return Enrolment(
            machine_key=machine_key,
            node_key=request.node_key,
            old_node_key=request.old_node_key,
            lock_key=request.nl_key,
            hostinfo=hostinfo,
            capability_version=request.version,
            user_id=key.user_id,
            tags=requested or key.tags,
            is_ephemeral=key.is_ephemeral or request.ephemeral,
            is_authorized=key.is_preauthorized or not tailnet.settings.is_device_approval_on,
            auth_key_id=key.id,
        )

    def _register_by_person(
        self, tailnet: Tailnet, now_unix_s: float, request: RegisterRequest, machine_key: MachinePublicKey
    ) -> Outcome[Answer]:
        """A followup of an undecided login waits; everything else begins one. An approved one never comes here."""
        if is_refused(tailnet, now_unix_s, (machine_key, request.node_key)):
            return _refused(tailnet, REFUSED_BY_PERSON)
        if request.followup:
            login_id = request.followup.rstrip("/").rpartition("/")[2]
            if login_for(tailnet, now_unix_s, login_id, machine_key) is not None:
                response = RegisterResponse(auth_url=self.login_url(login_id))
                return Outcome(tailnet, NO_CHANGE, Answer(response, wait_for=login_id))
        outcome = begin_login(tailnet, now_unix_s, request=request, machine_key=machine_key, random=self.random)
        response = RegisterResponse(auth_url=self.login_url(outcome.result.id))
        return Outcome(outcome.tailnet, outcome.change, Answer(response))


def _log_out(tailnet: Tailnet, now_unix_s: float, node: TailnetNode | None) -> Outcome[Answer]:
    """The key ends now; an ephemeral node goes. What the client sent as expiry (1970) is never stored."""
    answer = Answer(RegisterResponse())
    if node is None or (node.is_expired(now_unix_s) and not node.is_ephemeral):
        return Outcome(tailnet, NO_CHANGE, answer)
    if node.is_ephemeral:
        gone = removal(tailnet, node, "LOGOUT")
        return Outcome(gone.tailnet, gone.change, answer)
    change = Change(nodes=frozenset({node.id}), events=(node_event(node, "LOGOUT"),))
    return Outcome(tailnet.with_node(expired(node, now_unix_s)), change, answer)


def _refused(tailnet: Tailnet, why: str) -> Outcome[Answer]:
    return Outcome(tailnet, NO_CHANGE, Answer(RegisterResponse(error=why)))


def _success(tailnet: Tailnet, node: TailnetNode) -> Answer:
    return Answer(
        RegisterResponse(
            user=user_of(tailnet, node), login=login_of(tailnet, node), machine_authorized=node.is_authorized
        )
    )


def _wants_another_tailnet(tailnet: Tailnet, wish: str) -> bool:
    name = wish.removeprefix(REQUIRED_TAILNET)
    return name != wish and name not in (tailnet.settings.tailnet_name, tailnet.settings.base_domain)
