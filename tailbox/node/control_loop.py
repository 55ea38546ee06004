"""Carries out what the control session decides: dials, registers, polls, updates, answers.

It never ends by itself. While the coordinator is away the last netmap stays in force, and with it every tunnel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Protocol

import httpx

from tailbox.clock import Clock
from tailbox.errors import Malformed, TailboxError
from tailbox.node.control_answers import answer_c2n
from tailbox.node.control_client import ControlClient, ControlError, ControlStream
from tailbox.node.core.control_session import (
    MAP_SILENCE_LIMIT_S,
    UPDATE_DEBOUNCE_S,
    ControlSession,
    Phase,
    Poll,
    Register,
    SessionEvent,
    Wait,
)
from tailbox.runtime.supervisor import Supervisor
from tailbox.wire.control.framing import FrameDecoder
from tailbox.wire.control.json import decode, encode
from tailbox.wire.control.map import MapResponse, PingRequest
from tailbox.wire.control.registration import RegisterResponse

REGISTER_PATH = "/machine/register"
MAP_PATH = "/machine/map"
LOGOUT_TIMEOUT_S = 5.0  # ours, as tsnet has for its ephemeral nodes at shutdown
PING_ANSWER_TIMEOUT_S = 15.0  # direct.go, answerPing
MAX_ANSWERS_UNDER_WAY = 16  # ours
HTTP_OK = 200


class MapListener(Protocol):
    """Who hears the map stream."""

    def map_started(self) -> None:
        """A new stream: what it says starts from nothing."""
        ...

    def map_message(self, message: MapResponse) -> str | None:
        """Returns what is wrong with it, which ends the stream."""
        ...

    def map_ended(self, why: str) -> None: ...


class ControlLoop:
    """One session over one client."""

    def __init__(
        self,
        session: ControlSession,
        client: ControlClient,
        listener: MapListener,
        *,
        clock: Clock,
        supervisor: Supervisor,
        on_event: Callable[[SessionEvent], None],
        plain_http: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`plain_http` carries answers that go outside the control channel; None is the machine's network."""
        self._session = session
        self._client = client
        self._listener = listener
        self._clock = clock
        self._supervisor = supervisor
        self._on_event = on_event
        self._plain_http = plain_http
        self._connecting = asyncio.Lock()
        self._woken = asyncio.Event()
        self._update_wanted = asyncio.Event()
        self._last_ping_url = ""
        self._answers_under_way = 0
        self.is_polling = False

    def start(self) -> None:
        self._supervisor.keep_running("control", self._run)
        self._supervisor.keep_running("control updates", self._run_updates)

    def wake(self) -> None:
        """The session was told something: look again, even in the middle of a request."""
        self._woken.set()

    def update_soon(self) -> None:
        """Endpoints or host information changed: tell the coordinator, shortly and once."""
        self._update_wanted.set()

    async def logout(self) -> None:
        """Tell the coordinator, and forget the key. Raises ControlError, with the login still standing."""
        request = self._session.logout_request()
        if request is not None:
            await self._connect()
            body = encode(request)
            answer = await self._client.request("POST", REGISTER_PATH, body, timeout_s=LOGOUT_TIMEOUT_S)
            if answer.status != HTTP_OK:
                raise ControlError(f"logout answered {answer.status}")
        self._session.logged_out()
        self.wake()

    async def close(self) -> None:
        await self._client.close()

    # The main loop.

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            step = self._session.next_step(now=self._clock.monotonic())
            if isinstance(step, Wait):
                await self._wait(step.until)
                continue
            work = self._register(step) if isinstance(step, Register) else self._poll(step)
            await self._until_woken(work)

    async def _wait(self, until: float | None) -> None:
        delay = None if until is None else max(0.0, until - self._clock.monotonic())
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _until_woken(self, work: Coroutine[None, None, None]) -> None:
        """Do a step, but give it up when the session has been told something meanwhile."""
        task = asyncio.create_task(work, name="control step")
        waiting = asyncio.create_task(self._woken.wait(), name="control wake")
        try:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (task, waiting):
                each.cancel()
            await asyncio.gather(task, waiting, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _register(self, step: Register) -> None:
        try:
            await self._connect()
            timeout = None if step.waits_for_user else MAP_SILENCE_LIMIT_S
            answer = await self._client.request("POST", REGISTER_PATH, encode(step.request), timeout_s=timeout)
            if answer.status != HTTP_OK:
                self._tell(
                    self._session.register_refused(
                        answer.status, retry_after_s=_seconds(answer.headers.get("retry-after")), now=self._now
                    )
                )
                return
            self._tell(self._session.registered(decode(RegisterResponse, answer.body), now=self._now))
        except (TailboxError, OSError) as error:
            self._tell(self._session.failed(_text(error), now=self._now))

    async def _poll(self, step: Poll) -> None:
        why = "the coordinator ended the stream"
        try:
            await self._connect()
            body = encode(self._session.stream_request())
            stream = await self._client.stream("POST", MAP_PATH, body, timeout_s=MAP_SILENCE_LIMIT_S)
            async with stream:
                if stream.status != HTTP_OK:
                    self._tell(self._session.poll_refused(stream.status, now=self._now))
                    return
                self._listener.map_started()
                self.is_polling = True
                self.update_soon()
                why = await self._read_map(stream)
        except TimeoutError:
            why = f"no message for {MAP_SILENCE_LIMIT_S:.0f} s"
            await self._client.close()
        except (TailboxError, OSError) as error:
            why = _text(error)
        finally:
            self.is_polling = False
            self._listener.map_ended(why)
        self._tell(self._session.failed(why, now=self._now))

    async def _read_map(self, stream: ControlStream) -> str:
        """Until the stream ends or says something impossible; returns why."""
        frames = FrameDecoder(compressed=True)
        while True:
            async with asyncio.timeout(MAP_SILENCE_LIMIT_S):
                data = await stream.read()
            if not data:
                return "the coordinator ended the stream"
            for payload in frames.feed(data):
                message = decode(MapResponse, payload)
                self._session.poll_message()
                if message.ping_request is not None:
                    self._answer_later(message.ping_request)
                wrong = self._listener.map_message(message)
                if wrong is not None:
                    return wrong
            if frames.error is not None:
                return str(frames.error)

    async def _connect(self) -> None:
        """One at a time: a poll that starts again and a logout may want the connection at once."""
        async with self._connecting:
            if not self._client.is_connected:
                await self._client.connect()

    # Updates.

    async def _run_updates(self) -> None:
        while True:
            await self._update_wanted.wait()
            await asyncio.sleep(UPDATE_DEBOUNCE_S)
            self._update_wanted.clear()
            if not self.is_polling or self._session.phase is not Phase.POLLING:
                continue  # the next stream brings an update with it
            try:
                body = encode(self._session.lite_update())
                await self._client.request("POST", MAP_PATH, body)
            except (TailboxError, OSError):
                await asyncio.sleep(1.0)
                self._update_wanted.set()

    # The coordinator's questions.

    def _answer_later(self, ping: PingRequest) -> None:
        if not ping.url or ping.url == self._last_ping_url or self._answers_under_way >= MAX_ANSWERS_UNDER_WAY:
            return
        self._last_ping_url = ping.url
        self._answers_under_way += 1
        self._supervisor.run_once("answer coordinator", lambda: self._answer(ping))

    async def _answer(self, ping: PingRequest) -> None:
        try:
            async with asyncio.timeout(PING_ANSWER_TIMEOUT_S):
                if ping.types == "c2n":
                    path = httpx.URL(ping.url).raw_path.decode()
                    await self._client.request("POST", path, answer_c2n(ping.payload or b""))
                elif not ping.types and ping.url_is_noise:
                    await self._client.request("HEAD", httpx.URL(ping.url).raw_path.decode())
                elif not ping.types and ping.url.startswith(("http://", "https://")):
                    async with httpx.AsyncClient(transport=self._plain_http, trust_env=False) as client:
                        await client.head(ping.url)
        except (TailboxError, OSError, httpx.HTTPError, httpx.InvalidURL):
            pass  # the coordinator asks again, or thinks its part: there is nobody here to tell
        finally:
            self._answers_under_way -= 1

    @property
    def _now(self) -> float:
        return self._clock.monotonic()

    def _tell(self, events: tuple[SessionEvent, ...]) -> None:
        for event in events:
            self._on_event(event)


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; HTTP dates count as unusable."""
    return float(text) if text is not None and text.strip().isascii() and text.strip().isdigit() else None


def _text(error: Exception) -> str:
    if isinstance(error, Malformed):
        return f"undecodable answer: {error}"
    return str(error) or type(error).__name__
