"""An endpoint of the REST API is one row of a table, which makes its route, its checks and its part of the document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailbox.coord.core.change import Command
from tailbox.coord.core.records import Role
from tailbox.errors import Forbidden, Invalid

if TYPE_CHECKING:
    from tailbox.coord.admin.authorization import Caller
    from tailbox.coord.admin.context import AdminContext

MAX_BODY_BYTES = 1024 * 1024  # ours: the largest body that makes sense is a policy file
Body = TypeVar("Body", bound=msgspec.Struct)
R = TypeVar("R")


class RequestStruct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of request bodies: a member that we do not know is a mistake, and is said to be one."""


class AnswerStruct(msgspec.Struct, frozen=True, rename="camel"):
    """Base of answers: camel case; members that are UNSET do not appear."""


class Access(Enum):
    """Who may call."""

    ANYONE = "anyone"  # without a credential
    SELF = "self"  # any active user
    READ = "read"  # every role but member
    WRITE = "write"  # the roles in `Operation.writers`


ADMINS = frozenset({Role.OWNER, Role.ADMIN, Role.IT_ADMIN})  # machines, users, keys: role matrix, reference §18.3
NETWORK_ADMINS = frozenset({Role.OWNER, Role.ADMIN, Role.NETWORK_ADMIN})  # routes, DNS, policy


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter of the query string, for the document."""

    name: str
    description: str
    kind: str = "string"  # JSON Schema type


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request to one operation."""

    operation: Operation
    request: Request
    context: AdminContext
    caller: Caller | None
    raw_body: bytes

    def parameter(self, name: str) -> str:
        """A variable of the path."""
        return str(self.request.path_params[name])

    def body(self, kind: type[Body]) -> Body:
        """The decoded body. Raises Invalid with the place of the mistake."""
        assert kind is self.operation.body, "the table and the handler must agree"
        return decode_body(kind, self.raw_body)

    async def apply(self, command: Command[R]) -> R:
        """Change the tailnet in the caller's name."""
        return await self.context.apply(command, self.who)

    @property
    def who(self) -> Caller:
        """The caller of an operation that is not for anyone."""
        assert self.caller is not None, "operations with access READ or WRITE have a caller"
        return self.caller


Handler = Callable[[Call], Awaitable[msgspec.Struct | Response | None]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table."""

    method: str
    path: str  # below /api, with {variables}
    handler: Handler
    name: str  # operationId
    tag: str
    summary: str
    access: Access = Access.READ
    body: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None  # None: `{}`
    answer_media_type: str = "application/json"
    query: tuple[QueryParameter, ...] = ()
    errors: tuple[int, ...] = ()  # beyond 400, 401, 403 and 429
    is_extension: bool = False  # ours, not of the upstream API
    writers: frozenset[Role] = ADMINS  # for Access.WRITE

    def check_role(self, role: Role) -> None:
        """Raises Forbidden if the role may not call this."""
        is_refused = role is Role.MEMBER if self.access is Access.READ else role not in self.writers
        if self.access in (Access.READ, Access.WRITE) and is_refused:
            raise Forbidden(f"role {role.value} may not do this")


def decode_body(kind: type[Body], raw: bytes) -> Body:
    """JSON, whatever the Content-Type said. Raises Invalid naming the member that is wrong."""
    if not raw.strip():
        raise Invalid("the request has no body; wanted a JSON object")
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"invalid request body: {error}") from None
    except RecursionError:
        raise Invalid("invalid request body: nested too deeply") from None


async def read_body(request: Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises Invalid once it exceeds `limit`, without reading on."""
    pieces: list[bytes] = []
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total > limit:
            raise Invalid(f"request body of more than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)
