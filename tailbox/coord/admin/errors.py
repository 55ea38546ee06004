"""One table from our errors to HTTP statuses, and the body that goes with them: `{"message": …}`.

Source: Tailscale OpenAPI document v2, the `Error` schema. OAuth endpoints have a form of their own and are not here.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from tailbox.errors import Conflict, Forbidden, Invalid, NotFound, RequestError, Unauthorized

STATUS_OF: dict[type[RequestError], int] = {
    Invalid: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
}
CHALLENGE = 'Bearer realm="tailbox", Basic realm="tailbox"'  # RFC 9110 §11.6.1: a 401 names the ways in
NO_STORE = {"Cache-Control": "no-store"}


class TooManyRequests(RequestError):
    """Asked too often; the answer says when to come back."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many requests; try again later")
        self.retry_after_s = retry_after_s


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong, in one sentence."""

    message: str


def status_of(error: RequestError) -> int:
    """The status of an error; a RequestError outside the table counts as a bad request."""
    if isinstance(error, TooManyRequests):
        return 429
    return next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), 400)


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """`{"message": …}` under a status, never cached."""
    body = msgspec.json.encode(ErrorBody(message))
    return Response(body, status, {**NO_STORE, **(headers or {})}, "application/json")


def response_for(error: RequestError) -> Response:
    """The answer to a request that raised."""
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return error_response(status_of(error), str(error), headers)
