"""`/login/{id}`: the page behind an AuthURL, where a signed-in administrator lets a waiting node in or turns it away.

A bare GET changes nothing: with a silent sign-in, a link sent by a stranger would add the stranger's device. Whoever is
not signed in goes by `/login` first and comes back. The link itself is no secret worth hiding: it can only approve the
very device that asked, whose machine key, node key and host name were fixed when it asked.
Source: headscale hscontrol/oidc.go (confirmation page); control.md §5.7.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tailbox.coord.admin.authorization import Caller, check_csrf, session_caller
from tailbox.coord.admin.context import AdminContext
from tailbox.coord.admin.errors import status_of
from tailbox.coord.admin.pages import facts, hidden_field, html_page, new_nonce
from tailbox.coord.admin.pending_login_view import PendingLoginView, pending_login_view
from tailbox.coord.admin.pending_logins import approve_login, find_pending, refuse_login
from tailbox.coord.admin.sign_in import read_form, sign_in_path
from tailbox.coord.store.tailnet_store import StoreFailed
from tailbox.errors import Invalid, NotFound, RequestError

GONE_TEXT = (
    "<p>This login is no longer waiting: it was answered, it is too old, or it never existed. "
    "Run <code>tailbox up</code> again to get a new link.</p>"
)


class LoginPages:
    """The endpoints of `/login/{login_id}`."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    async def get(self, request: Request) -> Response:
        """Show who asks to join."""
        login_id = request.path_params["login_id"]
        caller = session_caller(request, self._context)
        if caller is None:
            return RedirectResponse(sign_in_path(f"/login/{login_id}"), 303, {"Cache-Control": "no-store"})
        try:
            login = find_pending(self._context, login_id)
            return self._question(pending_login_view(login, server_url=self._context.config.server_url), caller)
        except NotFound:
            return self._page("Login expired", GONE_TEXT, status=410)

    async def post(self, request: Request) -> Response:
        """Let the node in or turn it away."""
        login_id = request.path_params["login_id"]
        caller = session_caller(request, self._context)
        if caller is None:
            return RedirectResponse(sign_in_path(f"/login/{login_id}"), 303, {"Cache-Control": "no-store"})
        try:
            form = await read_form(request)
            check_csrf(request, caller.csrf_token or "", form.get("csrf"))
            return await self._answer(login_id, form.get("verdict"), caller)
        except NotFound:
            return self._page("Login expired", GONE_TEXT, status=410)
        except RequestError as error:
            return self._page("Not done", facts({"Reason": str(error)}), status=status_of(error))
        except StoreFailed:  # logged where it happened
            return self._page("Not done", facts({"Reason": "the change could not be stored"}), status=503)

    async def _answer(self, login_id: str, verdict: str | None, caller: Caller) -> Response:
        if verdict == "approve":
            node = await approve_login(self._context, login_id, caller)
            name = self._context.coordinator.tailnet.fqdn(node)
            return self._page(
                "Device joined",
                facts({"Name": name}) + '<p>You may close this page, or go to the <a href="/admin/">console</a>.</p>',
            )
        if verdict == "refuse":
            await refuse_login(self._context, login_id, caller)
            return self._page("Device refused", "<p>The device was turned away, and can ask again in some minutes.</p>")
        raise Invalid("the form says neither approve nor refuse")

    def _question(self, pending: PendingLoginView, caller: Caller) -> Response:
        rows = {
            "Host name": pending.hostname or "(not told)",
            "Operating system": pending.os or "(not told)",
            "Machine key": pending.machine_key,
            "Asked at": pending.created,
            "Joins as": caller.login_name,
        }
        if pending.tags:
            rows["Wants the tags"] = ", ".join(pending.tags)
        csrf = hidden_field("csrf", caller.csrf_token or "")
        buttons = (
            f"<form class=inline method=post>{csrf}{hidden_field('verdict', 'approve')}"
            "<button class=primary>Let it join</button></form>"
            f"<form class=inline method=post>{csrf}{hidden_field('verdict', 'refuse')}<button>Refuse</button></form>"
        )
        note = "<p>Approve only a device that you have just told to join. Compare its machine key if in doubt.</p>"
        return self._page("A device asks to join", facts(rows) + note + buttons)

    def _page(self, title: str, body: str, *, status: int = 200) -> Response:
        return html_page(title, body, nonce=new_nonce(self._context.random), status=status)
