"""What every endpoint of the administration side has at hand: one object, made by the application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from tailbox.clock import Clock
from tailbox.coord.admin.authorization import Caller
from tailbox.coord.admin.events import EventFeed
from tailbox.coord.admin.rate_limit import RateLimit
from tailbox.coord.admin.sessions import Sessions
from tailbox.coord.config import CoordConfig
from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core.change import Command
from tailbox.coord.core.journal import Actor
from tailbox.coord.metrics import CoordMetrics
from tailbox.randomness import RandomSource

SIGN_IN_BURST, SIGN_INS_PER_MINUTE = 10, 10.0  # ours: per address
BAD_TOKEN_BURST, BAD_TOKENS_PER_MINUTE = 30, 30.0  # ours: per address; good tokens are not counted

R = TypeVar("R")


def _sign_in_limit() -> RateLimit:
    return RateLimit(burst=SIGN_IN_BURST, per_minute=SIGN_INS_PER_MINUTE)


def _token_limit() -> RateLimit:
    return RateLimit(burst=BAD_TOKEN_BURST, per_minute=BAD_TOKENS_PER_MINUTE)


@dataclass(frozen=True, slots=True)
class AdminContext:
    """The coordinator, its settings, and the state that only browsers and tools have."""

    coordinator: Coordinator
    config: CoordConfig
    clock: Clock
    random: RandomSource
    sessions: Sessions
    metrics: CoordMetrics
    feed: EventFeed
    regions: Mapping[int, str]  # the relay regions' names
    sign_in_limit: RateLimit = field(default_factory=_sign_in_limit)
    token_limit: RateLimit = field(default_factory=_token_limit)

    def address_of(self, request: Request) -> str:
        """Whom a rate limit counts: the peer's address; a unix socket counts as one peer."""
        return request.client.host if request.client is not None else "local"

    async def apply(self, command: Command[R], caller: Caller) -> R:
        """Change the tailnet in somebody's name."""
        actor = Actor(kind="USER", id=str(caller.user_id), name=caller.login_name, origin=caller.origin)
        return await self.coordinator.apply(command, actor=actor)

    def sign_in_link(self, user_id: int) -> str:
        """A URL that signs one browser in, once. The secret in it is not kept."""
        secret, _ = self.sessions.make_link(user_id, now_unix_s=self.clock.unix_time())
        return self.config.url(f"/login?token={secret}")
