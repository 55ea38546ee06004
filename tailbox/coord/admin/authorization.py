"""Who is calling: `Authorization: Bearer`, `Basic` with the token as user name, or the console's cookie.

A cookie alone changes nothing: whatever is not a read must repeat the session's token in `X-CSRF-Token` and must not
come from another origin. A caller with a token is not a browser and needs neither.
Source: Tailscale API documentation, "Authentication"; OWASP, cross-site request forgery.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import Request

from tailbox.coord.core.api_tokens import authenticate as authenticate_token
from tailbox.coord.core.records import Role
from tailbox.errors import Forbidden, Unauthorized

if TYPE_CHECKING:
    from tailbox.coord.admin.context import AdminContext

SESSION_COOKIE = "tailbox_session"
CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_CREDENTIAL_BYTES = 1024  # ours: no token is longer; what is, is refused before it is hashed
INVALID_TOKEN = "API token invalid"  # upstream's own text


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller and what the audit log says of it."""

    user_id: int
    login_name: str
    display_name: str
    role: Role
    token_id: str | None = None  # the API token in use; None: a console session
    csrf_token: str | None = None  # of the session, for the console itself
    expires_unix_s: float | None = None  # when this credential ends

    @property
    def origin(self) -> str:
        """Where a change came from, in the words of the audit log."""
        return "CONFIG_API" if self.token_id is not None else "ADMIN_CONSOLE"


def credential_of(header: str | None) -> str | None:
    """The token in an Authorization header; None without a header. Raises Unauthorized for any other form."""
    if header is None:
        return None
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if not value or len(value) > MAX_CREDENTIAL_BYTES:
        raise Unauthorized(INVALID_TOKEN)
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() != "basic":
        raise Unauthorized(INVALID_TOKEN)
    try:
        user = base64.b64decode(value, validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        raise Unauthorized(INVALID_TOKEN) from None
    if not user:
        raise Unauthorized(INVALID_TOKEN)
    return user


def check_same_origin(request: Request) -> None:
    """Raises Forbidden if a browser says that another site is behind the request. Source: Fetch Metadata, RFC 6454."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("cross-origin request refused")
    origin = request.headers.get("origin", "null")  # our pages send "null", since they send no referrer either
    if origin != "null" and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise Forbidden("cross-origin request refused")


def check_csrf(request: Request, expected: str, given: str | None) -> None:
    """Raises Forbidden unless a state-changing request by cookie repeats the session's token."""
    check_same_origin(request)
    if given is None or not hmac.compare_digest(given.encode(), expected.encode()):
        raise Forbidden("missing or wrong CSRF token")


def session_caller(request: Request, context: AdminContext) -> Caller | None:
    """The signed-in user of the console's cookie, if its session and its user still exist."""
    cookie = request.cookies.get(SESSION_COOKIE)
    if not cookie or len(cookie) > MAX_CREDENTIAL_BYTES:
        return None
    session = context.sessions.find(cookie, now_unix_s=context.clock.unix_time())
    if session is None:
        return None
    user = context.coordinator.tailnet.users.get(session.user_id)
    if user is None or not user.is_active:
        return None
    return Caller(
        user_id=user.id,
        login_name=user.login_name,
        display_name=user.display_name,
        role=user.role,
        csrf_token=session.csrf_token,
        expires_unix_s=session.expires_unix_s,
    )


def authenticate(request: Request, context: AdminContext) -> Caller:
    """The caller of a request. Raises Unauthorized, or Forbidden for a forged request."""
    token = credential_of(request.headers.get("authorization"))
    if token is not None:
        return token_caller(token, context)
    caller = session_caller(request, context)
    if caller is None:
        raise Unauthorized(INVALID_TOKEN)
    if request.method not in SAFE_METHODS:
        check_csrf(request, caller.csrf_token or "", request.headers.get(CSRF_HEADER))
    return caller


def token_caller(token: str, context: AdminContext) -> Caller:
    """The owner of an API token. Raises Unauthorized for an unknown, expired or revoked one."""
    tailnet = context.coordinator.tailnet
    found = authenticate_token(tailnet, context.clock.unix_time(), token)
    user = tailnet.user(found.user_id)
    return Caller(
        user_id=user.id,
        login_name=user.login_name,
        display_name=user.display_name,
        role=user.role,
        token_id=found.id,
        expires_unix_s=found.expires_unix_s,
    )
