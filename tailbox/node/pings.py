"""Pings under way: what was sent, and who waits for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tailbox.node.core.engine import EngineEvent, TsmpPong
from tailbox.paths.events import PingPurpose, PingTimedOut, PongReceived
from tailbox.paths.path import Path
from tailbox.userspace_stack.events import EchoReply
from tailbox.wire.keys import NodePublicKey

REPEAT_AFTER_S = (0.1, 1.0)  # ours: doubling from the first to the second

Answer = tuple[float, Path | None]  # latency in seconds, path where it is known


class Pings:
    """Matches answers with questions."""

    def __init__(self) -> None:
        self._by_peer: dict[NodePublicKey, list[asyncio.Future[Answer]]] = {}
        self._by_data: dict[bytes, tuple[float, asyncio.Future[Answer]]] = {}

    async def disco(self, peer: NodePublicKey, send: Callable[[], None], *, timeout_s: float) -> Answer:
        """Raises TimeoutError."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = self._by_peer.setdefault(peer, [])
        waiting.append(future)
        try:
            return await _repeat(send, future, timeout_s)
        finally:
            waiting.remove(future)
            if not waiting:
                self._by_peer.pop(peer, None)

    async def through_tunnel(
        self, data: bytes, send: Callable[[], None], *, now: Callable[[], float], timeout_s: float
    ) -> Answer:
        """`data` names the question in its answer. Raises TimeoutError."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def send_and_note() -> None:
            self._by_data[data] = (now(), future)
            send()

        try:
            return await _repeat(send_and_note, future, timeout_s)
        finally:
            self._by_data.pop(data, None)

    def handle(self, event: EngineEvent, *, now: float) -> None:
        if isinstance(event, PongReceived):
            if event.purpose is PingPurpose.COMMAND:
                self._answer_peer(event.peer, (event.latency_s, event.path))
        elif isinstance(event, TsmpPong):
            self._answer_data(event.data, now)
        elif isinstance(event, EchoReply):
            self._answer_data(event.payload, now)
        elif isinstance(event, PingTimedOut):
            pass  # another path may still answer; whoever waits has a time limit of their own

    def _answer_peer(self, peer: NodePublicKey, answer: Answer) -> None:
        for future in self._by_peer.get(peer, ()):
            if not future.done():
                future.set_result(answer)

    def _answer_data(self, data: bytes, now: float) -> None:
        waiting = self._by_data.get(data)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result((now - waiting[0], None))


async def _repeat(send: Callable[[], None], answer: asyncio.Future[Answer], timeout_s: float) -> Answer:
    """Ask again and again: a datagram may be lost, and a new peer's paths take a moment to be known."""
    async with asyncio.timeout(timeout_s):
        delay_s = REPEAT_AFTER_S[0]
        while not answer.done():
            send()
            await asyncio.wait({answer}, timeout=delay_s)
            delay_s = min(2 * delay_s, REPEAT_AFTER_S[1])
    return answer.result()
