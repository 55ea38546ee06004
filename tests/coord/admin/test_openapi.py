"""The document is made from the table: every row, every variable, every type."""

from __future__ import annotations

import pytest

from tailbox.coord.admin.key_schema import CreateKey, Key
from tailbox.coord.admin.openapi import PARAMETER_TEXT, openapi_document, path_variables
from tailbox.coord.admin.operation import Access, Call, Operation, QueryParameter


async def nothing(_call: Call) -> None:
    return None


TABLE = (
    Operation(
        "POST", "/v2/tailnet/{tailnet}/keys", nothing, "createKey", "Keys", "Make.", Access.WRITE, CreateKey, Key,
        query=(QueryParameter("all", "Everything.", "boolean"),), errors=(404,), is_extension=True,
    ),
    Operation("GET", "/v2/open", nothing, "open", "Other", "Look.", Access.ANYONE),
)  # fmt: skip


def test_a_row_becomes_an_operation_with_its_types_and_errors() -> None:
    document = openapi_document(TABLE, server_url="http://box", version="1.2.3")
    paths = document["paths"]
    assert isinstance(paths, dict)
    created = paths["/api/v2/tailnet/{tailnet}/keys"]["post"]
    assert created["operationId"] == "createKey"
    assert created["x-tailbox-extension"] is True
    assert [parameter["name"] for parameter in created["parameters"]] == ["tailnet", "all"]
    body = created["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/CreateKey"}
    assert sorted(created["responses"]) == ["200", "400", "401", "403", "404", "429", "503"]
    components = document["components"]
    assert isinstance(components, dict)
    assert {"CreateKey", "Key", "ErrorBody"} <= set(components["schemas"])


def test_what_is_for_anyone_needs_no_credential() -> None:
    document = openapi_document(TABLE, server_url="http://box", version="1")
    paths = document["paths"]
    assert isinstance(paths, dict)
    assert paths["/api/v2/open"]["get"]["security"] == []
    assert "401" not in paths["/api/v2/open"]["get"]["responses"]


@pytest.mark.parametrize(("path", "names"), [("/a", []), ("/a/{b}/c/{d_e}", ["b", "d_e"])])
def test_path_variables(path: str, names: list[str]) -> None:
    assert path_variables(path) == names


def test_every_variable_has_a_description() -> None:
    assert all(PARAMETER_TEXT.values())
