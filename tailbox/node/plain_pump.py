"""Bytes between two sockets of the machine: proxied connections that lead out of the tailnet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

BUFFER_BYTES = 64 * 1024  # ours: held for a slow receiver, each direction


class PlainPump:
    """One pair of sockets. `on_done` is called once, when both are closed."""

    def __init__(
        self,
        client: socket.socket,
        remote: socket.socket,
        *,
        on_done: Callable[[PlainPump], None],
        client_bytes: int | None = None,
    ) -> None:
        """`client_bytes`: after that many bytes the client has said everything, and more is thrown away."""
        self._sockets = (client, remote)
        self._on_done = on_done
        self._left = client_bytes
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self, early: bytes = b"", *, reply: bytes = b"") -> None:
        """Begin, with `early` bytes for the remote and a `reply` for the client that go first."""
        self._task = self._loop.create_task(self._run(early, reply), name="proxy to the outside")

    def close(self, *, reset: bool = False) -> None:
        """End both sides now; `reset` makes no difference here."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, early: bytes, reply: bytes) -> None:
        client, remote = self._sockets
        try:
            with contextlib.suppress(OSError):
                await self._loop.sock_sendall(client, reply)
                await self._loop.sock_sendall(remote, early)
                left = None if self._left is None else max(0, self._left - len(early))
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._copy(remote, client, None))
                    group.create_task(self._copy(client, remote, left))
        except* OSError:
            pass  # either side is gone: the connection is over
        finally:
            client.close()
            remote.close()
            self._on_done(self)

    async def _copy(self, source: socket.socket, target: socket.socket, left: int | None) -> None:
        while left is None or left > 0:
            data = await self._loop.sock_recv(source, BUFFER_BYTES if left is None else min(left, BUFFER_BYTES))
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(target, data)
            left = None if left is None else left - len(data)
