"""Registration and the map poll as decisions: what to ask the coordinator next, and what its answers mean.

The shell asks `next_step`, does it, and reports. Nothing here gives up: every failure leads to a later attempt. Source:
tailscale control/controlclient/{direct,auto}.go; control reference §5.2, §6.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from tailbox.crypto.x25519 import node_public
from tailbox.randomness import RandomSource
from tailbox.wire.control.capability import CURRENT_VERSION
from tailbox.wire.control.map import ZSTD, MapRequest
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.control.registration import LOGOUT_EXPIRY, RegisterAuth, RegisterRequest, RegisterResponse
from tailbox.wire.keys import DiscoPublicKey, NodePrivateKey, NodePublicKey

MAP_SILENCE_LIMIT_S = 120.0  # direct.go: the poll is given up after this long without a message
UPDATE_DEBOUNCE_S = 0.1  # ours: endpoints and network conditions tend to change together
LONGEST_BACKOFF_S = 30.0  # auto.go
BACKOFF_STEP_S = 0.01  # logtail/backoff: n² times this
RENEWAL_INTERVAL_S = 60.0  # ours: a coordinator that gives out expired keys is not stormed
UNUSABLE_RETRY_AFTER_S = (5.0, 10.0)  # direct.go: where Retry-After is missing, negative or over an hour
LONGEST_RETRY_AFTER_S = 3600.0
UNKNOWN_NODE_STATUSES = frozenset({400, 401, 403, 404})  # of a map request: the coordinator does not know us any more


class Phase(Enum):
    """What the session is at."""

    STOPPED = "stopped"  # the user said down
    LOGGED_OUT = "logged out"  # waits for `login`
    REGISTERING = "registering"
    AWAITING_USER = "awaiting user"  # somebody has to visit the AuthURL
    POLLING = "polling"


@dataclass(frozen=True, slots=True)
class Register:
    """Send this, and report `registered`, `register_refused` or `failed`."""

    request: RegisterRequest
    waits_for_user: bool  # no time limit: the coordinator answers when somebody has decided


@dataclass(frozen=True, slots=True)
class Poll:
    """Open a map stream, and report `poll_message` for each message, `failed` or `poll_refused` at its end."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this time (None: until somebody calls `login`, `up`…)."""

    until: float | None


Step = Register | Poll | Wait


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The node key is registered: keep it."""

    key: NodePrivateKey


@dataclass(frozen=True, slots=True)
class VisitUrl:
    """Somebody has to sign in there."""

    url: str


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """The coordinator's own words."""

    why: str


@dataclass(frozen=True, slots=True)
class ControlFailed:
    """An attempt failed; the next one comes by itself."""

    why: str
    retry_in_s: float


SessionEvent = LoggedIn | VisitUrl | LoginRefused | ControlFailed


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What registration asks for."""

    login_server: str
    auth_key: str = ""
    ephemeral: bool = False

    def __repr__(self) -> str:
        return f"SessionSettings({self.login_server!r}, auth_key={'[redacted]' if self.auth_key else None})"


class ControlSession:
    """One node's dealings with its coordinator."""

    def __init__(
        self,
        settings: SessionSettings,
        *,
        node_key: NodePrivateKey | None,
        old_node_key: NodePrivateKey | None,
        disco_key: DiscoPublicKey,
        random: RandomSource,
        version: int = CURRENT_VERSION,
    ) -> None:
        self._settings = settings
        self._auth_key = settings.auth_key
        self._random = random
        self._disco_key = disco_key
        self._version = version
        self._key = node_key
        self._trying = node_key
        self._old_key = old_node_key
        self._renewed_in_this_attempt = False
        self._failures = 0
        self._not_before = 0.0
        self._renewed_at = -RENEWAL_INTERVAL_S
        self.phase = Phase.REGISTERING
        self.auth_url = ""
        self.last_error = ""
        self.hostinfo = Hostinfo()
        self.endpoints: tuple[tuple[str, int], ...] = ()  # endpoint, type

    # Asked by the shell.

    @property
    def node_key(self) -> NodePrivateKey:
        """The key in use, or the one being tried."""
        if self._trying is None:
            self._trying = NodePrivateKey(self._random.bytes(32))
        return self._trying

    @property
    def has_node_key(self) -> bool:
        """Whether a key is registered, as far as we know."""
        return self._key is not None

    def next_step(self, *, now: float) -> Step:
        if self.phase in (Phase.STOPPED, Phase.LOGGED_OUT):
            return Wait(None)
        if now < self._not_before:
            return Wait(self._not_before)
        if self.phase is Phase.POLLING:
            return Poll()
        return Register(self._register_request(), waits_for_user=self.phase is Phase.AWAITING_USER)

    def stream_request(self) -> MapRequest:
        """Opens the map stream."""
        return self._map_request(stream=True)

    def lite_update(self) -> MapRequest:
        """Tells our endpoints and host information."""
        return self._map_request(stream=False)

    def logout_request(self) -> RegisterRequest | None:
        """Ends the registration at the coordinator; None if there is none."""
        if self._key is None:
            return None
        key = node_public(self._key)
        return RegisterRequest(version=self._version, node_key=key, expiry=LOGOUT_EXPIRY, hostinfo=self.hostinfo)

    # Told by the shell.

    def login(self, *, auth_key: str = "", force: bool = False) -> None:
        """Somebody asks to log in; with `force`, anew even though a login stands."""
        self._auth_key = auth_key or self._auth_key
        self.last_error = ""
        self._not_before = 0.0
        if force:
            self._renew_key()
        if self.phase is not Phase.POLLING or force:
            self._begin_registration()

    def forget_auth_key(self) -> None:
        """The next registration asks for a person's approval. A refused key would stand in its way for ever."""
        self._auth_key = ""

    def up(self) -> None:
        if self.phase is Phase.STOPPED:
            self._not_before = 0.0
            self._begin_registration()

    def down(self) -> None:
        if self.phase is not Phase.LOGGED_OUT:
            self.phase = Phase.STOPPED

    def logged_out(self) -> None:
        """The user logged out: the key is forgotten."""
        self._key = self._trying = self._old_key = None
        self._auth_key = ""
        self.auth_url = ""
        self.phase = Phase.LOGGED_OUT

    def registered(self, response: RegisterResponse, *, now: float) -> tuple[SessionEvent, ...]:
        """The coordinator's answer, read in upstream's order."""
        if response.error:
            self.last_error = response.error
            self.auth_url = ""  # whatever was to be visited there is decided
            self.phase = Phase.REGISTERING
            return LoginRefused(response.error), self._back_off(response.error, now)
        if response.node_key_expired:
            return self._on_expired_key(now)
        if response.auth_url:
            return self._on_auth_url(response.auth_url, now)
        self._renewed_in_this_attempt = False
        self._key = self.node_key
        self._failures = 0
        self._not_before = 0.0
        self.auth_url = self.last_error = ""
        self.phase = Phase.POLLING
        return (LoggedIn(self._key),)

    def register_refused(self, status: int, *, retry_after_s: float | None, now: float) -> tuple[SessionEvent, ...]:
        """Another status than 200."""
        if status != 429:
            return (self._back_off(f"registration answered {status}", now),)
        wait = retry_after_s if retry_after_s is not None and 0 <= retry_after_s <= LONGEST_RETRY_AFTER_S else None
        wait = self._random.uniform(*UNUSABLE_RETRY_AFTER_S) if wait is None else wait
        self._not_before = now + wait
        return (ControlFailed(f"node registration rate limited; will retry after {wait:.0f} s", wait),)

    def poll_message(self) -> None:
        """The stream lives."""
        self._failures = 0

    def poll_refused(self, status: int, *, now: float) -> tuple[SessionEvent, ...]:
        """A map request was answered with another status than 200. A coordinator that lost us gets a registration."""
        if status in UNKNOWN_NODE_STATUSES:
            self._begin_registration()
        return (self._back_off(f"map request answered {status}", now),)

    def self_expired(self, *, now: float) -> None:
        """The netmap says that our key is past its time: register a new one, but not one after the other."""
        if self.phase is Phase.POLLING:
            self._renew_key()
            self._begin_registration()
            self._not_before = max(now, self._renewed_at + RENEWAL_INTERVAL_S)
            self._renewed_at = self._not_before

    def failed(self, why: str, *, now: float) -> tuple[SessionEvent, ...]:
        """Dialling, the connection or the stream broke."""
        return (self._back_off(why, now),)

    # Inside.

    def _begin_registration(self) -> None:
        self.phase = Phase.REGISTERING
        self.auth_url = ""
        self._renewed_in_this_attempt = False

    def _renew_key(self) -> None:
        self._old_key = self._key or self._old_key
        self._trying = NodePrivateKey(self._random.bytes(32))

    def _register_request(self) -> RegisterRequest:
        old = self._old_key if self._old_key is not None and self._old_key != self.node_key else None
        waits = self.phase is Phase.AWAITING_USER
        return RegisterRequest(
            version=self._version,
            node_key=node_public(self.node_key),
            old_node_key=node_public(old) if old else None,
            auth=RegisterAuth(auth_key=self._auth_key) if self._auth_key and not waits else None,
            followup=self.auth_url if waits else "",
            hostinfo=self.hostinfo,
            ephemeral=self._settings.ephemeral,
        )

    def _map_request(self, *, stream: bool) -> MapRequest:
        return MapRequest(
            version=self._version,
            compress=ZSTD,
            keep_alive=True,
            node_key=self._public_key(),
            disco_key=self._disco_key,
            stream=stream,
            omit_peers=not stream,
            hostinfo=self.hostinfo,
            endpoints=tuple(endpoint for endpoint, _ in self.endpoints),
            endpoint_types=tuple(kind for _, kind in self.endpoints),
        )

    def _public_key(self) -> NodePublicKey:
        return node_public(self.node_key)

    def _on_expired_key(self, now: float) -> tuple[SessionEvent, ...]:
        if self._renewed_in_this_attempt:
            self._renewed_in_this_attempt = False
            return (self._back_off("weird: the coordinator calls a new node key expired", now),)
        self._renew_key()
        self._renewed_in_this_attempt = True
        self.phase = Phase.REGISTERING
        self._not_before = 0.0
        return ()

    def _on_auth_url(self, url: str, now: float) -> tuple[SessionEvent, ...]:
        if not self._is_acceptable(url):
            return (self._back_off("the coordinator's sign-in address is not https", now),)
        if self.phase is Phase.AWAITING_USER and url == self.auth_url:
            return (self._back_off("login URL not changing", now),)
        self.phase = Phase.AWAITING_USER
        self.auth_url = url
        self._failures = 0
        self._not_before = 0.0
        return (VisitUrl(url),)

    def _is_acceptable(self, url: str) -> bool:
        scheme = urlsplit(url).scheme
        return scheme == "https" or (scheme == "http" and self._settings.login_server.startswith("http:"))

    def _back_off(self, why: str, now: float) -> ControlFailed:
        """n² times 10 ms, half as much more or less, at most 30 s."""
        self._failures += 1
        bound = min(LONGEST_BACKOFF_S, BACKOFF_STEP_S * min(self._failures, 100) ** 2)
        delay = self._random.uniform(bound / 2, bound * 1.5)
        self._not_before = now + delay
        return ControlFailed(why, delay)
