"""What a command leaves behind: a new snapshot, what it touched, and a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from tailbox.coord.core.tailnet import Tailnet

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class TargetKind(StrEnum):
    """What an event is about: the audit schema's names."""

    TAILNET = "TAILNET"
    USER = "USER"
    NODE = "NODE"
    API_KEY = "API_KEY"


@dataclass(frozen=True, slots=True)
class Event:
    """One line for the audit log: `NODE.UPDATE.MACHINE_NAME` and its target."""

    kind: TargetKind
    action: str  # CREATE, UPDATE, DELETE, LOGIN …
    aspect: str = ""  # the audit schema's property: MACHINE_NAME, ACL_TAGS …
    target_id: str = ""
    target_name: str = ""

    @property
    def what(self) -> str:
        return ".".join(part for part in (self.kind.value, self.action, self.aspect) if part)


@dataclass(frozen=True, slots=True)
class Change:
    """The identifiers that a command touched. Read by the store, the map streams and the event log."""

    nodes: frozenset[int] = frozenset()
    users: frozenset[int] = frozenset()
    auth_keys: frozenset[str] = frozenset()
    api_tokens: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()  # that a node got or left: rows of retired names may come and go
    pending_logins: frozenset[str] = frozenset()  # in memory only: touches no row
    has_settings: bool = False
    has_counters: bool = False
    events: tuple[Event, ...] = ()

    @property
    def touches_rows(self) -> bool:
        """Whether the store has something to write."""
        touched = self.nodes or self.users or self.auth_keys or self.api_tokens or self.names
        return bool(touched or self.has_settings or self.has_counters or self.events)

    @property
    def is_empty(self) -> bool:
        return not self.touches_rows and not self.pending_logins

    def merge(self, other: Change) -> Change:
        """Both, in this order: what a reader who slept through the first has to look at."""
        if self.is_empty:
            return other
        if other.is_empty:
            return self
        return Change(
            nodes=self.nodes | other.nodes,
            users=self.users | other.users,
            auth_keys=self.auth_keys | other.auth_keys,
            api_tokens=self.api_tokens | other.api_tokens,
            names=self.names | other.names,
            pending_logins=self.pending_logins | other.pending_logins,
            has_settings=self.has_settings or other.has_settings,
            has_counters=self.has_counters or other.has_counters,
            events=self.events + other.events,
        )


NO_CHANGE = Change()


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R_co]):
    """A command's outcome: nothing has happened until the coordinator has stored it."""

    tailnet: Tailnet
    change: Change
    result: R_co


Command = Callable[[Tailnet, float], Outcome[R]]  # (snapshot, now in Unix seconds); arguments are bound by partial
