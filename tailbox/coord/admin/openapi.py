"""The OpenAPI 3.1 document, made from the table of operations and the msgspec types of bodies and answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from tailbox.coord.admin.errors import ErrorBody
from tailbox.coord.admin.operation import Access, Operation

OPENAPI_VERSION = "3.1.0"
REF_TEMPLATE = "#/components/schemas/{name}"
Json = dict[str, object]

REASON_OF: dict[int, str] = {
    400: "The request is malformed or fails validation.",
    401: "The token is missing, unknown, expired or revoked.",
    403: "The caller may not do this.",
    404: "No such thing, or it belongs to another tailnet.",
    409: "Taken, or in contradiction to the present state.",
    429: "Asked too often; `Retry-After` says when to come back.",
    501: "Not possible here.",
    503: "The change could not be stored: the disk is full, or failing.",
}
PARAMETER_TEXT: dict[str, str] = {
    "tailnet": "`-` for the tailnet of the token, or the tailnet's name.",
    "device_id": "`nodeId` of a device, or its decimal `id`.",
    "key_id": "The public part of a key.",
    "user_id": "Decimal id of a user.",
    "login_id": "Id of a pending login.",
}
CREDENTIALS: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "API access token"},
    "basic": {"type": "http", "scheme": "basic", "description": "API access token as the user name"},
    "session": {"type": "apiKey", "in": "cookie", "name": "tailbox_session"},
}


def openapi_document(operations: Sequence[Operation], *, server_url: str, version: str) -> Json:
    """The whole document."""
    types = _types_of(operations)
    schemas, components = msgspec.json.schema_components(types, schema_hook=_schema_of, ref_template=REF_TEMPLATE)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(f"/api{operation.path}", {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Tailbox API",
            "version": version,
            "description": "The administration API of a Tailbox coordinator, in the shapes of the Tailscale API v2. "
            "Operations marked `x-tailbox-extension` are Tailbox's own.",
        },
        "servers": [{"url": server_url}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": CREDENTIALS},
    }


def _schema_of(kind: type) -> Json:
    """The one type that msgspec does not know: `object` stands for any JSON."""
    if kind is object:
        return {"description": "any JSON value"}
    raise NotImplementedError


def path_variables(path: str) -> list[str]:
    """The names in braces."""
    return re.findall(r"{(\w+)}", path)


def _types_of(operations: Sequence[Operation]) -> list[type[msgspec.Struct]]:
    types: dict[type[msgspec.Struct], None] = {ErrorBody: None}
    for operation in operations:
        for kind in (operation.body, operation.answer):
            if kind is not None:
                types[kind] = None
    return list(types)


def _operation(operation: Operation, schema_of: dict[type[msgspec.Struct], Json]) -> Json:
    described: Json = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation, schema_of),
        "security": [] if operation.access is Access.ANYONE else [{"bearer": []}, {"basic": []}, {"session": []}],
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[operation.body]}},
        }
    if operation.is_extension:
        described["x-tailbox-extension"] = True
    return described


def _parameters(operation: Operation) -> list[Json]:
    in_path: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PARAMETER_TEXT[name],
            "schema": {"type": "string", **({"default": "-"} if name == "tailnet" else {})},
        }
        for name in path_variables(operation.path)
    ]
    in_query: list[Json] = [
        {"name": each.name, "in": "query", "description": each.description, "schema": {"type": each.kind}}
        for each in operation.query
    ]
    return in_path + in_query


def _responses(operation: Operation, schema_of: dict[type[msgspec.Struct], Json]) -> dict[str, Json]:
    schema: Json = {"type": "object"} if operation.answer is None else schema_of[operation.answer]
    if operation.answer_media_type != "application/json":
        schema = {"type": "string"}
    responses: dict[str, Json] = {
        "200": {"description": "Done.", "content": {operation.answer_media_type: {"schema": schema}}}
    }
    statuses = {400, 429, *operation.errors} | (set() if operation.access is Access.ANYONE else {401, 403})
    if operation.method != "GET":
        statuses.add(503)
    for status in sorted(statuses):
        content = {"application/json": {"schema": schema_of[ErrorBody]}}
        responses[str(status)] = {"description": REASON_OF[status], "content": content}
    return responses
