"""From the table of operations to an ASGI application: authenticate, check the tailnet, decode, call, encode."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from tailbox.coord.admin.authorization import Caller, authenticate
from tailbox.coord.admin.context import AdminContext
from tailbox.coord.admin.docs import docs_page
from tailbox.coord.admin.errors import NO_STORE, error_response, response_for
from tailbox.coord.admin.openapi import openapi_document
from tailbox.coord.admin.operation import Access, Call, Operation, read_body
from tailbox.coord.admin.pages import new_nonce
from tailbox.coord.admin.security_headers import SecurityHeaders
from tailbox.coord.store.tailnet_store import StoreFailed
from tailbox.errors import NotFound, RequestError, Unauthorized

Endpoint = Callable[[Request], Awaitable[Response]]
log = logging.getLogger(__name__)


def rest_application(operations: Sequence[Operation], context: AdminContext, *, version: str) -> ASGIApp:
    """Everything below `/api`: the operations, the document and its pages."""
    document = msgspec.json.encode(openapi_document(operations, server_url=context.config.server_url, version=version))

    async def openapi(_request: Request) -> Response:
        return Response(document, media_type="application/json", headers={"Cache-Control": "no-cache"})

    async def docs(_request: Request) -> Response:
        return docs_page(new_nonce(context.random))

    routes: list[BaseRoute] = [Route("/openapi.json", openapi), Route("/docs", docs)]
    routes += _operation_routes(operations, context)
    return SecurityHeaders(Starlette(routes=routes, exception_handlers={HTTPException: _http_error}))


def _operation_routes(operations: Sequence[Operation], context: AdminContext) -> list[BaseRoute]:
    """One route for each path, so that a wrong method is 405 and names the right ones."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = _endpoint(operation, context)
    return [Route(path, _by_method(methods), methods=list(methods)) for path, methods in by_path.items()]


def _by_method(endpoints: dict[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method](request)

    return endpoint


def _endpoint(operation: Operation, context: AdminContext) -> Endpoint:
    metrics = context.metrics

    async def endpoint(request: Request) -> Response:
        started_at = context.clock.monotonic()
        try:
            response = await _answer(operation, request, context)
        except RequestError as error:
            response = response_for(error)
        except ClientDisconnect:
            response = error_response(400, "the request ended early")
        except StoreFailed:  # logged where it happened
            response = error_response(503, "the change could not be stored")
        except Exception as error:  # a bug of ours: the caller learns no more than that
            log.error("request failed", extra={"operation": operation.name}, exc_info=error)
            response = error_response(500, "internal error")
        metrics.request_duration.labels(route=operation.path).observe(context.clock.monotonic() - started_at)
        metrics.requests.labels(route=operation.path, method=operation.method, status=response.status_code).inc()
        return response

    return endpoint


async def _answer(operation: Operation, request: Request, context: AdminContext) -> Response:
    caller = None if operation.access is Access.ANYONE else _authenticate(request, context)
    if caller is not None:
        operation.check_role(caller.role)
    tailnet = request.path_params.get("tailnet", "-")
    if tailnet not in ("-", context.config.tailnet_name):
        raise NotFound("tailnet not found")
    raw_body = b"" if operation.body is None else await read_body(request)
    answer = await operation.handler(Call(operation, request, context, caller, raw_body))
    if isinstance(answer, Response):
        return answer
    body = b"{}" if answer is None else msgspec.json.encode(answer)
    return Response(body, headers=NO_STORE, media_type="application/json")


def _authenticate(request: Request, context: AdminContext) -> Caller:
    """The caller. Guessing tokens is slow: failures of one address run into a limit. To show no token is no guess."""
    try:
        return authenticate(request, context)
    except Unauthorized:
        if "authorization" in request.headers:
            context.token_limit.check(context.address_of(request), now=context.clock.monotonic())
        raise


async def _http_error(_request: Request, error: Exception) -> Response:
    """Paths and methods that are not in the table."""
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail.lower(), dict(error.headers or {}))
