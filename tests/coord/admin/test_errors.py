"""Every error of ours has its status and the upstream body."""

from __future__ import annotations

import json

import pytest

from tailbox.coord.admin.errors import TooManyRequests, error_response, response_for
from tailbox.errors import Conflict, Forbidden, Invalid, NotFound, RequestError, Unauthorized


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("a"), 400),
        (Unauthorized("b"), 401),
        (Forbidden("c"), 403),
        (NotFound("d"), 404),
        (Conflict("e"), 409),
        (RequestError("f"), 400),
    ],
)
def test_each_error_becomes_its_status_with_a_message(error: RequestError, status: int) -> None:
    response = response_for(error)
    assert response.status_code == status
    assert json.loads(bytes(response.body)) == {"message": str(error)}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"


def test_a_401_names_the_ways_in() -> None:
    assert "Bearer" in response_for(Unauthorized("x")).headers["www-authenticate"]
    assert "www-authenticate" not in response_for(Forbidden("x")).headers


@pytest.mark.parametrize(("wait_s", "header"), [(0.2, "1"), (7.4, "7")])
def test_a_429_says_when_to_come_back(wait_s: float, header: str) -> None:
    response = response_for(TooManyRequests(wait_s))
    assert (response.status_code, response.headers["retry-after"]) == (429, header)


def test_messages_are_json_whatever_is_in_them() -> None:
    body = bytes(error_response(400, 'quote " and \u2028 line').body)
    assert json.loads(body) == {"message": 'quote " and \u2028 line'}
