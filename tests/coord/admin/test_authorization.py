"""The Authorization header in all its forms, and the checks on requests by cookie."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from tailbox.coord.admin.authorization import check_csrf, check_same_origin, credential_of
from tailbox.errors import Forbidden, Unauthorized


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def request(**headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": pairs})


@pytest.mark.parametrize(
    "header",
    [
        "Bearer tskey-api-a-b",
        "bearer  tskey-api-a-b ",
        basic("tskey-api-a-b:"),
        basic("tskey-api-a-b"),
        basic("tskey-api-a-b:pw"),
    ],
)
def test_a_token_comes_as_bearer_or_as_the_user_of_basic(header: str) -> None:
    assert credential_of(header) == "tskey-api-a-b"


def test_no_header_is_no_credential() -> None:
    assert credential_of(None) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "tskey-api-a-b",
        "Digest x",
        "Basic !!!",
        basic(":pw"),
        "Basic /w==",
        "Bearer " + "x" * 2000,
    ],
)
def test_other_forms_are_unauthorized(header: str) -> None:
    with pytest.raises(Unauthorized):
        credential_of(header)


@given(header=st.text(min_size=4, max_size=60))
def test_any_header_is_a_token_or_unauthorized_without_being_repeated(header: str) -> None:
    try:
        token = credential_of(header)
    except Unauthorized as error:
        message = str(error)
    else:
        message = ""
        assert token
    assert header not in message


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "box:8080"},
        {"host": "box:8080", "origin": "http://BOX:8080"},
        {"host": "box:8080", "origin": "null"},  # what a page with Referrer-Policy: no-referrer sends
        {"host": "box:8080", "sec_fetch_site": "same-origin"},
        {"host": "box:8080", "sec_fetch_site": "none"},
    ],
)
def test_requests_of_our_own_pages_pass(headers: dict[str, str]) -> None:
    check_same_origin(request(**headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "box", "origin": "http://evil"},
        {"host": "box:8080", "origin": "http://box:8081"},
        {"host": "box", "sec_fetch_site": "cross-site"},
        {"host": "box", "sec_fetch_site": "same-site"},
    ],
)
def test_requests_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="cross-origin"):
        check_same_origin(request(**headers))


def test_a_change_by_cookie_repeats_the_token_of_the_session() -> None:
    check_csrf(request(host="box"), "secret", "secret")
    for wrong in (None, "", "Secret", "secret2", "é"):
        with pytest.raises(Forbidden, match="CSRF"):
            check_csrf(request(host="box"), "secret", wrong)
