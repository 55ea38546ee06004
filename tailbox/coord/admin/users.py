"""Users, and who the caller is."""

from __future__ import annotations

from msgspec import UNSET, UnsetType
from starlette.responses import Response

from tailbox import __version__
from tailbox.coord.admin.authorization import SESSION_COOKIE
from tailbox.coord.admin.device_view import api_time
from tailbox.coord.admin.errors import NO_STORE
from tailbox.coord.admin.operation import Access, AnswerStruct, Call, Operation
from tailbox.coord.admin.sessions import LINK_LIFETIME_S
from tailbox.coord.core.records import User
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import NotFound


class UserView(AnswerStruct, frozen=True):
    """A user as the upstream API shows one."""

    id: str
    display_name: str
    login_name: str
    profile_pic_url: str
    tailnet_id: str
    created: str
    type: str
    role: str
    status: str
    device_count: int
    currently_connected: bool
    last_seen: str | UnsetType = UNSET


class UserList(AnswerStruct, frozen=True):
    """All users."""

    users: tuple[UserView, ...]


class WhoAmI(AnswerStruct, frozen=True):
    """The caller: what the console needs to begin."""

    user: UserView
    tailnet: str
    base_domain: str
    server_url: str
    version: str
    credential: str  # "session" or "token"
    expires: str | UnsetType = UNSET
    csrf_token: str | UnsetType = UNSET  # of a session: to be sent as X-CSRF-Token with whatever is not a GET


class SignInLinkView(AnswerStruct, frozen=True):
    """A one-time sign-in link. It is shown once."""

    url: str
    expires: str


def user_view(tailnet: Tailnet, user: User) -> UserView:
    """A user with what their devices tell of them."""
    owned = [node for node in tailnet.nodes.values() if node.user_id == user.id and not node.is_tagged]
    is_connected = any(node.is_online for node in owned)
    seen = [node.last_seen_unix_s for node in owned if node.last_seen_unix_s is not None]
    return UserView(
        id=str(user.id),
        display_name=user.display_name or user.login_name,
        login_name=user.login_name,
        profile_pic_url=user.profile_pic_url,
        tailnet_id=tailnet.settings.tailnet_name,
        created=api_time(user.created_unix_s),
        type="member",
        role=user.role.value,
        status=user.status.value,
        device_count=len(owned),
        currently_connected=is_connected,
        last_seen=api_time(max(seen)) if seen and not is_connected else UNSET,
    )


async def list_users(call: Call) -> UserList:
    """GET users."""
    tailnet = call.context.coordinator.tailnet
    return UserList(tuple(user_view(tailnet, user) for user in tailnet.users.values()))


async def get_user(call: Call) -> UserView:
    """GET one user."""
    tailnet = call.context.coordinator.tailnet
    text = call.parameter("user_id")
    user = tailnet.users.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 19 else None
    if user is None:
        raise NotFound("user not found")
    return user_view(tailnet, user)


async def who_am_i(call: Call) -> WhoAmI:
    """GET the caller."""
    caller, tailnet = call.who, call.context.coordinator.tailnet
    return WhoAmI(
        user=user_view(tailnet, tailnet.user(caller.user_id)),
        tailnet=tailnet.settings.tailnet_name,
        base_domain=tailnet.settings.base_domain,
        server_url=call.context.config.server_url,
        version=__version__,
        credential="session" if caller.token_id is None else "token",
        expires=UNSET if caller.expires_unix_s is None else api_time(caller.expires_unix_s),
        csrf_token=UNSET if caller.csrf_token is None else caller.csrf_token,
    )


async def create_sign_in_link(call: Call) -> SignInLinkView:
    """POST: make a link that signs its first user in as the caller."""
    now = call.context.clock.unix_time()
    return SignInLinkView(call.context.sign_in_link(call.who.user_id), api_time(now + LINK_LIFETIME_S))


async def sign_out(call: Call) -> Response:
    """POST: end the console session."""
    cookie = call.request.cookies.get(SESSION_COOKIE)
    if cookie:
        call.context.sessions.close(cookie)
    response = Response(b"{}", headers=NO_STORE, media_type="application/json")
    response.delete_cookie(SESSION_COOKIE)
    return response


OPERATIONS = (
    Operation(
        "GET", "/v2/tailnet/{tailnet}/users", list_users, "listUsers", "Users", "List users.",
        answer=UserList, errors=(404,),
    ),
    Operation("GET", "/v2/users/{user_id}", get_user, "getUser", "Users", "One user.", answer=UserView, errors=(404,)),
    Operation(
        "GET", "/v2/whoami", who_am_i, "whoAmI", "Console", "Who the caller is.",
        Access.SELF, answer=WhoAmI, is_extension=True,
    ),
    Operation(
        "POST", "/v2/sign-in-links", create_sign_in_link, "createSignInLink", "Console",
        "Make a link that signs one browser in, once, within 15 minutes.",
        Access.WRITE, answer=SignInLinkView, is_extension=True,
    ),
    Operation(
        "POST", "/v2/sign-out", sign_out, "signOut", "Console", "End the console session.",
        Access.SELF, is_extension=True,
    ),
)  # fmt: skip
