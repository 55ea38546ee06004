"""The page behind an AuthURL: who asks, and what an administrator answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from tests.coord.conftest import Lab


def form_of(page: httpx.Response) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))


async def signed_in(lab: Lab) -> httpx.AsyncClient:
    browser = lab.browser()
    parts = urlsplit(lab.coord.sign_in_link())
    await browser.get(f"{parts.path}?{parts.query}")
    await browser.post("/login", data=form_of(await browser.get("/login")))
    return browser


async def test_strangers_sign_in_first_and_come_back(lab: Lab) -> None:
    login_id = await lab.begin_login()
    for method in ("GET", "POST"):
        answer = await lab.browser().request(method, f"/login/{login_id}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next=/login/{login_id}")


async def test_looking_changes_nothing_and_approving_adds_the_device(lab: Lab) -> None:
    login_id = await lab.begin_login("laptop")
    browser = await signed_in(lab)
    page = await browser.get(f"/login/{login_id}")
    assert page.status_code == 200
    assert "laptop" in page.text
    assert "mkey:" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert not lab.coord.coordinator.tailnet.nodes
    done = await browser.post(f"/login/{login_id}", data={"csrf": form_of(page)["csrf"], "verdict": "approve"})
    assert done.status_code == 200
    assert "laptop.tailnet.internal" in done.text
    assert [node.name for node in lab.coord.coordinator.tailnet.nodes.values()] == ["laptop"]
    assert (await browser.get(f"/login/{login_id}")).status_code == 410


async def test_a_refused_device_is_turned_away(lab: Lab) -> None:
    login_id = await lab.begin_login()
    browser = await signed_in(lab)
    csrf = form_of(await browser.get(f"/login/{login_id}"))["csrf"]
    assert (await browser.post(f"/login/{login_id}", data={"csrf": csrf, "verdict": "refuse"})).status_code == 200
    assert not lab.coord.coordinator.tailnet.pending_logins
    assert not lab.coord.coordinator.tailnet.nodes


async def test_forged_and_senseless_answers_are_refused(lab: Lab) -> None:
    login_id = await lab.begin_login()
    browser = await signed_in(lab)
    csrf = form_of(await browser.get(f"/login/{login_id}"))["csrf"]
    path = f"/login/{login_id}"
    assert (await browser.post(path, data={"verdict": "approve"})).status_code == 403
    assert (await browser.post(path, data={"csrf": "x", "verdict": "approve"})).status_code == 403
    evil = {"Sec-Fetch-Site": "cross-site"}
    assert (await browser.post(path, data={"csrf": csrf, "verdict": "approve"}, headers=evil)).status_code == 403
    assert (await browser.post(path, data={"csrf": csrf, "verdict": "?"})).status_code == 400
    assert (await browser.post(path, data={"csrf": csrf, "verdict": "x" * 5000})).status_code == 400
    assert (await browser.post("/login/unknown", data={"csrf": csrf, "verdict": "approve"})).status_code == 410
    assert not lab.coord.coordinator.tailnet.nodes


async def test_host_names_are_escaped(lab: Lab) -> None:
    login_id = await lab.begin_login("<script>alert(1)</script>")
    page = await (await signed_in(lab)).get(f"/login/{login_id}")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;" in page.text


async def test_pending_logins_are_answered_by_the_api_too(lab: Lab) -> None:
    first, second = await lab.begin_login("one", 50), await lab.begin_login("two", 51)
    tool, base = lab.tool(), "/api/v2/tailnet/-/pending-logins"
    listed = (await tool.get(base)).json()["pendingLogins"]
    assert [login["hostname"] for login in listed] == ["one", "two"]
    assert listed[0]["url"] == f"http://box.example:8080/login/{first}"
    device = (await tool.post(f"{base}/{first}/approve")).json()
    assert (device["hostname"], device["user"]) == ("one", "admin")
    assert (await tool.post(f"{base}/{second}/refuse")).json() == {}
    assert (await tool.post(f"{base}/{second}/approve")).status_code == 404
    third = await lab.begin_login("three", 52)
    lab.clock.advance(15 * 60)
    assert (await tool.get(base)).json() == {"pendingLogins": []}
    assert (await tool.post(f"{base}/{third}/approve")).status_code == 404


async def test_an_approval_that_cannot_be_stored_can_be_given_again(lab: Lab) -> None:
    login_id = await lab.begin_login()
    browser = await signed_in(lab)
    verdict = {"csrf": form_of(await browser.get(f"/login/{login_id}"))["csrf"], "verdict": "approve"}
    connection = lab.coord.coordinator._store._connection
    connection.execute("PRAGMA query_only = ON")
    assert (await browser.post(f"/login/{login_id}", data=verdict)).status_code == 503
    connection.execute("PRAGMA query_only = OFF")
    assert (await browser.post(f"/login/{login_id}", data=verdict)).status_code == 200
    assert len(lab.coord.coordinator.tailnet.nodes) == 1
