"""Who may connect: by call, by URL, and what happens when nobody answers."""

from __future__ import annotations

import json

import httpx
import pytest

from tailbox.clock import ManualClock
from tailbox.derp.admission import AdmissionByAll, AdmissionByCall, AdmissionByUrl, OpenAdmission
from tailbox.wire.keys import NodePublicKey

KEY = NodePublicKey(bytes(range(32)))
OTHER = NodePublicKey(bytes(32))


def by_url(
    answer: httpx.Response | Exception, *, fail_open: bool = False
) -> tuple[AdmissionByUrl, list[httpx.Request]]:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    return AdmissionByUrl(
        "https://coord.test/verify", clock=ManualClock(), fail_open=fail_open, client=client
    ), requests


async def test_the_question_is_upstreams() -> None:
    admission, requests = by_url(httpx.Response(200, json={"Allow": True}))
    assert await admission.admits(KEY, "192.0.2.1")
    assert requests[0].method == "POST"
    assert json.loads(requests[0].content) == {"NodePublic": KEY.text, "Source": "192.0.2.1"}
    assert "content-type" not in requests[0].headers
    await admission.close()


@pytest.mark.parametrize("answer", [
    httpx.Response(200, json={"Allow": False}),
    httpx.Response(200, json={"Allow": "true"}),
    httpx.Response(200, json=[True]),
    httpx.Response(200, content=b"{"),
    httpx.Response(200, content=b'{"Allow":true}' + b" " * 5000),
    httpx.Response(403, json={"Allow": True}),
    httpx.Response(302, headers={"location": "https://elsewhere.test/"}),
])  # fmt: skip
@pytest.mark.parametrize("fail_open", [True, False])
async def test_an_answer_that_is_no_yes_is_a_no(answer: httpx.Response, fail_open: bool) -> None:
    admission, _ = by_url(answer, fail_open=fail_open)
    assert not await admission.admits(KEY, "")
    await admission.close()


@pytest.mark.parametrize("fail_open", [True, False])
async def test_no_answer_is_as_configured(fail_open: bool) -> None:
    admission, _ = by_url(httpx.ConnectError("down"), fail_open=fail_open)
    assert await admission.admits(KEY, "") is fail_open
    await admission.close()


async def test_the_admitted_are_remembered_for_five_minutes_of_silence() -> None:
    clock, is_down = ManualClock(), False

    def handle(request: httpx.Request) -> httpx.Response:
        if is_down:
            raise httpx.ReadTimeout("down")
        return httpx.Response(200, json={"Allow": json.loads(request.content)["NodePublic"] == KEY.text})

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    admission = AdmissionByUrl("https://coord.test/verify", clock=clock, fail_open=False, client=client)
    assert await admission.admits(KEY, "")
    assert not await admission.admits(OTHER, "")
    is_down = True
    clock.advance(299.0)
    assert await admission.admits(KEY, "")
    assert not await admission.admits(OTHER, "")
    clock.advance(2.0)
    assert not await admission.admits(KEY, "")
    await admission.close()


async def test_a_function_decides_and_its_bugs_admit_nobody() -> None:
    async def later(key: NodePublicKey) -> bool:
        return key == KEY

    def broken(key: NodePublicKey) -> bool:
        raise RuntimeError

    assert await AdmissionByCall(lambda key: key == KEY).admits(KEY, "")
    assert await AdmissionByCall(later).admits(KEY, "")
    assert not await AdmissionByCall(later).admits(OTHER, "")
    assert not await AdmissionByCall(broken).admits(KEY, "")
    assert await AdmissionByAll([OpenAdmission(), OpenAdmission()]).admits(KEY, "")
    assert not await AdmissionByAll([OpenAdmission(), AdmissionByCall(broken)]).admits(KEY, "")
