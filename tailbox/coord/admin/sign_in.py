"""`/login`: signing in to the console by a one-time link or with an API token.

A link is `/login?token=…`. The GET spends nothing, since link previews follow links: it moves the token into a
short-lived cookie of this path and redirects to `/login`, so that the address bar, the history, the referrer and (the
query is blanked before the answer starts) any access log end up without it. The page there posts itself; only the POST
spends the link and opens a session. A cookie and a form field that must agree keep other sites from signing a browser
in.
"""

from __future__ import annotations

import hmac
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tailbox.coord.admin.authorization import SESSION_COOKIE, check_same_origin, session_caller, token_caller
from tailbox.coord.admin.errors import TooManyRequests, status_of
from tailbox.coord.admin.operation import read_body
from tailbox.coord.admin.pages import hidden_field, html_page, new_nonce
from tailbox.coord.admin.sessions import SESSION_LIFETIME_S, new_secret
from tailbox.errors import Forbidden, RequestError, Unauthorized

if TYPE_CHECKING:
    from tailbox.coord.admin.context import AdminContext

LINK_COOKIE = "tailbox_sign_in"
FORM_COOKIE = "tailbox_form"
LINK_COOKIE_LIFETIME_S = 300
MAX_FORM_BYTES = 4096  # as headscale's confirmation form
MAX_SECRET_CHARACTERS = 1024
CONSOLE_PATH = "/admin/"
SUBMIT_SCRIPT = "document.getElementById('continue').submit();"


def safe_next(path: str | None) -> str:
    """Where to go after signing in: a path of the console or of a pending login, and nothing else."""
    if not path or not path.startswith(("/admin/", "/login/")) or not path.isascii() or not path.isprintable():
        return CONSOLE_PATH
    return CONSOLE_PATH if any(mark in path for mark in ("\\", "//", "..")) else path


def sign_in_path(next_path: str) -> str:
    """The sign-in page that comes back to `next_path`."""
    return f"/login?next={quote(safe_next(next_path))}"


def is_secure(request: Request, context: AdminContext) -> bool:
    """Whether cookies may be marked Secure: the browser came by https, as far as we can tell."""
    host = request.headers.get("host", "")
    return request.url.scheme == "https" or (context.config.is_secure and context.config.server_url.endswith(host))


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a URL-encoded form; the first value of each. Raises Invalid above MAX_FORM_BYTES."""
    raw = await read_body(request, limit=MAX_FORM_BYTES)
    fields = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    return {name: values[0] for name, values in fields.items()}


class SignInPages:
    """The endpoints of `/login`."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    async def get(self, request: Request) -> Response:
        """The form, or the page that continues a link."""
        next_path = safe_next(request.query_params.get("next"))
        token = request.query_params.get("token")
        request.scope["query_string"] = b""  # what the access log prints once the answer starts
        if token is not None:
            return self._take_link(request, token, next_path)
        if LINK_COOKIE in request.cookies:
            return self._continue_page(request, next_path)
        if session_caller(request, self._context) is not None:
            return RedirectResponse(next_path, 303, {"Cache-Control": "no-store"})
        return self._form_page(request, next_path)

    async def post(self, request: Request) -> Response:
        """Spend a link or check a token, and open a session."""
        context = self._context
        next_path = CONSOLE_PATH
        try:
            context.sign_in_limit.check(context.address_of(request), now=context.clock.monotonic())
            check_same_origin(request)
            form = await read_form(request)
            next_path = safe_next(form.get("next"))
            _check_form_cookie(request, form)
            user_id = self._user_of(request, form)
        except RequestError as error:
            return self._refusal(request, error, next_path)
        return self._signed_in(request, user_id, next_path)

    def _user_of(self, request: Request, form: dict[str, str]) -> int:
        """Whoever the form proves to be. Raises Unauthorized."""
        context = self._context
        token = form.get("token", "").strip()
        if token:
            return token_caller(token[:MAX_SECRET_CHARACTERS], context).user_id
        secret = request.cookies.get(LINK_COOKIE, "")[:MAX_SECRET_CHARACTERS]
        link = context.sessions.use_link(secret, now_unix_s=context.clock.unix_time())
        if link is None or link.user_id not in context.coordinator.tailnet.users:
            raise Unauthorized("this sign-in link is not valid: it was used, or it is too old")
        return link.user_id

    def _signed_in(self, request: Request, user_id: int, next_path: str) -> Response:
        context = self._context
        old = request.cookies.get(SESSION_COOKIE)
        if old:  # a sign-in always makes a new session
            context.sessions.close(old)
        secret, _ = context.sessions.open(
            user_id, browser=request.headers.get("user-agent", ""), now_unix_s=context.clock.unix_time()
        )
        context.metrics.sign_ins.labels(result="accepted").inc()
        response = RedirectResponse(next_path, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        response.set_cookie(
            SESSION_COOKIE,
            secret,
            max_age=int(SESSION_LIFETIME_S),
            httponly=True,
            samesite="lax",
            secure=is_secure(request, context),
        )
        for name in (LINK_COOKIE, FORM_COOKIE):
            response.delete_cookie(name, path="/login")
        return response

    def _take_link(self, request: Request, token: str, next_path: str) -> Response:
        response = RedirectResponse(
            sign_in_path(next_path), 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        )
        response.set_cookie(
            LINK_COOKIE,
            token if token.isascii() and token.isprintable() and len(token) <= MAX_SECRET_CHARACTERS else "invalid",
            max_age=LINK_COOKIE_LIFETIME_S,
            path="/login",
            httponly=True,
            samesite="lax",
            secure=is_secure(request, self._context),
        )
        return response

    def _continue_page(self, request: Request, next_path: str) -> Response:
        button = "<button class=primary>Continue to the console</button>"
        return self._page_with_form(request, "Sign in", next_path, button, script=SUBMIT_SCRIPT)

    def _form_page(
        self,
        request: Request,
        next_path: str,
        *,
        status: int = 200,
        problem: str = "",
        headers: dict[str, str] | None = None,
    ) -> Response:
        problem_line = f'<p class="error" role="alert">{escape(problem)}</p>' if problem else ""
        fields = (
            '<label>API access token<input name="token" type="password" autocomplete="off" autofocus required></label>'
            "<button class=primary>Sign in</button>"
        )
        hint = (
            '<p class="muted">Without a token, use the one-time link that the coordinator prints when it starts. On '
            "its machine, the file <code>admin-token</code> in the state directory holds a token.</p>"
        )
        response = self._page_with_form(request, "Sign in", next_path, problem_line + fields, status=status, after=hint)
        response.headers.update(headers or {})
        return response

    def _page_with_form(
        self,
        request: Request,
        title: str,
        next_path: str,
        fields: str,
        *,
        status: int = 200,
        script: str | None = None,
        after: str = "",
    ) -> Response:
        context = self._context
        form_token = new_secret(context.random)
        hidden = hidden_field("next", next_path) + hidden_field("form", form_token)
        body = f'<form id="continue" method="post" action="/login">{hidden}{fields}</form>{after}'
        page = html_page(title, body, nonce=new_nonce(context.random), status=status, script=script)
        page.set_cookie(
            FORM_COOKIE,
            form_token,
            max_age=3600,
            path="/login",
            httponly=True,
            samesite="strict",
            secure=is_secure(request, context),
        )
        return page

    def _refusal(self, request: Request, error: RequestError, next_path: str) -> Response:
        """The form again, saying why; the link's cookie goes, so that a reload does not repeat it."""
        self._context.metrics.sign_ins.labels(result="refused").inc()
        headers = {"Retry-After": str(max(1, round(error.retry_after_s)))} if isinstance(error, TooManyRequests) else {}
        page = self._form_page(request, next_path, status=status_of(error), problem=str(error), headers=headers)
        page.delete_cookie(LINK_COOKIE, path="/login")
        return page


def _check_form_cookie(request: Request, form: dict[str, str]) -> None:
    """Raises Forbidden unless the form was filled in on a page that we gave to this very browser."""
    cookie, field = request.cookies.get(FORM_COOKIE, ""), form.get("form", "")
    if not cookie or not hmac.compare_digest(cookie.encode(), field.encode()):
        raise Forbidden("this form has expired; please try again")
