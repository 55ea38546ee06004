"""Who may use the relay. Asked once for each connection, after the client has proven its key.

Source: tailscale derp/derpserver/derpserver.go (verifyClient), tailcfg/derpmap.go (DERPAdmitClientRequest);
spec: derp.md §11.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import httpx

from tailbox.clock import Clock
from tailbox.wire.keys import NodePublicKey

URL_TIMEOUT_S = 5.0  # derpserver.go
MAX_ANSWER_BYTES = 4096  # derpserver.go
REMEMBER_S = 300.0  # ours: an admitted key stays admitted so long while nobody answers
MAX_REMEMBERED = 10_000  # ours


class Admission(Protocol):
    """One rule. Must not raise."""

    async def admits(self, key: NodePublicKey, source: str) -> bool:
        """`source`: the client's address as text, for the answerer's log."""
        ...


class OpenAdmission:
    """Everybody."""

    async def admits(self, key: NodePublicKey, source: str) -> bool:
        return True


class AdmissionByCall:
    """Whom a function of this process knows: the coordinator's, usually."""

    def __init__(self, knows: Callable[[NodePublicKey], bool | Awaitable[bool]]) -> None:
        self._knows = knows

    async def admits(self, key: NodePublicKey, source: str) -> bool:
        try:
            answer = self._knows(key)
            return answer if isinstance(answer, bool) else bool(await answer)
        except Exception:  # whatever is wrong with the one who should know: nobody gets in by it
            return False


class AdmissionByUrl:
    """Whom a web service knows: `POST {"NodePublic": …, "Source": …}`, answered `{"Allow": true}`.

    A service that cannot be reached admits whom it has admitted in the last minutes, so that its restart cuts nobody
    off; `fail_open` lets everybody in then. An answer that is no clear yes is a no in any case.
    """

    def __init__(self, url: str, *, clock: Clock, fail_open: bool, client: httpx.AsyncClient | None = None) -> None:
        self._url = url
        self._clock = clock
        self._fail_open = fail_open
        self._client = client or httpx.AsyncClient(timeout=URL_TIMEOUT_S, follow_redirects=False)
        self._admitted: OrderedDict[NodePublicKey, float] = OrderedDict()  # when, oldest first

    async def admits(self, key: NodePublicKey, source: str) -> bool:
        question = json.dumps({"NodePublic": key.text, "Source": source}).encode()
        try:
            allowed = await self._ask(question)
        except httpx.HTTPError:
            return self._fail_open or self._is_remembered(key)
        self._admitted.pop(key, None)
        if allowed:
            self._admitted[key] = self._clock.monotonic()
            if len(self._admitted) > MAX_REMEMBERED:
                self._admitted.popitem(last=False)
        return allowed

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, question: bytes) -> bool:
        """Raises httpx.HTTPError if there is no answer at all."""
        body = b""
        async with self._client.stream("POST", self._url, content=question) as response:
            if response.status_code != 200:
                return False
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    return False
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return False
        if not isinstance(answer, dict):
            return False
        return any(name.lower() == "allow" and value is True for name, value in answer.items())

    def _is_remembered(self, key: NodePublicKey) -> bool:
        admitted_at = self._admitted.get(key)
        return admitted_at is not None and self._clock.monotonic() - admitted_at <= REMEMBER_S


class AdmissionByAll:
    """Whom every one of several rules admits."""

    def __init__(self, rules: Sequence[Admission]) -> None:
        self._rules = tuple(rules)

    async def admits(self, key: NodePublicKey, source: str) -> bool:
        for rule in self._rules:
            if not await rule.admits(key, source):
                return False
        return True
