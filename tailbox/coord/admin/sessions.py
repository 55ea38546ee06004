"""Console sessions and one-time sign-in links. Pure: time and randomness are arguments; only hashes of secrets stay.

A session is an opaque cookie whose record lives here: user, created, last seen, expiry, browser. It lasts
SESSION_LIFETIME_S whatever happens to node keys. A restart of the coordinator forgets all sessions: sign in again.
Source: Tailscale's documentation on console sessions; OWASP session management.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

from tailbox.randomness import RandomSource

SESSION_LIFETIME_S = 30 * 86400.0  # as the hosted console
LINK_LIFETIME_S = 15 * 60.0  # ours: a sign-in link is used at once or not at all
MAX_SESSIONS = 1024  # ours: the oldest goes first
MAX_LINKS = 256  # ours
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in browser."""

    user_id: int
    created_unix_s: float
    expires_unix_s: float
    last_seen_unix_s: float
    csrf_token: str  # what a form or X-CSRF-Token must repeat
    browser: str  # User-Agent, cut short


@dataclass(frozen=True, slots=True)
class SignInLink:
    """A right to sign in once."""

    user_id: int
    expires_unix_s: float


def new_secret(random: RandomSource) -> str:
    """256 unpredictable bits, fit for a URL or a cookie."""
    return base64.urlsafe_b64encode(random.bytes(SECRET_BYTES)).rstrip(b"=").decode()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


class Sessions:
    """Who is signed in, and who may sign in by a link."""

    def __init__(self, random: RandomSource) -> None:
        self._random = random
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._links: OrderedDict[bytes, SignInLink] = OrderedDict()

    def open(self, user_id: int, *, browser: str, now_unix_s: float) -> tuple[str, Session]:
        """Start a session. Returns the cookie's value, which is not kept, and the record."""
        secret = new_secret(self._random)
        session = Session(
            user_id=user_id,
            created_unix_s=now_unix_s,
            expires_unix_s=now_unix_s + SESSION_LIFETIME_S,
            last_seen_unix_s=now_unix_s,
            csrf_token=new_secret(self._random),
            browser=browser[:200],
        )
        self._sessions[_hash(secret)] = session
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return secret, session

    def find(self, secret: str, *, now_unix_s: float) -> Session | None:
        """The live session of a cookie, and note that it was seen."""
        key = _hash(secret)
        session = self._sessions.get(key)
        if session is None:
            return None
        if session.expires_unix_s <= now_unix_s:
            del self._sessions[key]
            return None
        seen = replace(session, last_seen_unix_s=now_unix_s)
        self._sessions[key] = seen
        return seen

    def close(self, secret: str) -> None:
        """Sign out; unknown cookies do no harm."""
        self._sessions.pop(_hash(secret), None)

    def make_link(self, user_id: int, *, now_unix_s: float) -> tuple[str, SignInLink]:
        """Make a one-time sign-in secret; only its hash is kept."""
        secret = new_secret(self._random)
        link = SignInLink(user_id, now_unix_s + LINK_LIFETIME_S)
        self._links[_hash(secret)] = link
        while len(self._links) > MAX_LINKS:
            self._links.popitem(last=False)
        return secret, link

    def use_link(self, secret: str, *, now_unix_s: float) -> SignInLink | None:
        """Spend a link: the second use, an old one and a made-up one are all None."""
        link = self._links.pop(_hash(secret), None)
        return link if link is not None and link.expires_unix_s > now_unix_s else None

    def __len__(self) -> int:
        return len(self._sessions)
