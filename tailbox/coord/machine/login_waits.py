"""Registrations that are held until somebody decides: who waits for which login."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

MAX_WAITING = 2048  # ours: of all logins together; above it the URL is repeated at once


class LoginWaits:
    """Wakes the requests that wait for a login."""

    def __init__(self) -> None:
        self._by_login: dict[str, set[asyncio.Event]] = {}
        self._count = 0
        self.is_closed = False

    def notify(self, login_ids: Iterable[str]) -> None:
        """These logins were decided, or are too old."""
        for login_id in login_ids:
            for event in self._by_login.get(login_id, ()):
                event.set()

    def close(self) -> None:
        """The coordinator stops: nobody waits any longer."""
        self.is_closed = True
        self.notify(list(self._by_login))

    async def wait(self, login_id: str, *, gone: asyncio.Event, timeout_s: float) -> bool:
        """Until the login is decided, `gone` is set, or time is up. False: too many wait, or all shall end."""
        if self.is_closed or self._count >= MAX_WAITING:
            return False
        decided = asyncio.Event()
        self._by_login.setdefault(login_id, set()).add(decided)
        self._count += 1
        waiters = [asyncio.create_task(event.wait()) for event in (decided, gone)]
        try:
            await asyncio.wait(waiters, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
            self._count -= 1
            self._by_login[login_id].discard(decided)
            if not self._by_login[login_id]:
                del self._by_login[login_id]
        return not self.is_closed

    def __len__(self) -> int:
        return self._count
