"""`GET /api/v2/events`: what changes, as server-sent events. An extension of ours; the console lives by it.

| Event | Data |
|---|---|
| `ready` | where the journal stands: the reader has nothing to catch up with |
| `change` | what changed and how it looks now (ChangeEvent) |
| `reset` | too much was missed: read everything again |

An event's id is the journal's sequence. A reader that comes back with `Last-Event-ID` gets what it missed as one
change: rows by the journal, pending logins by a memory of their changes. What a reader of an earlier life of the
coordinator missed of these nobody knows, so it starts anew. Every reader has a bounded queue; one that falls behind is
cut off, comes back and catches up in the same way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager

import msgspec
from starlette.responses import Response, StreamingResponse

from tailbox.clock import Clock
from tailbox.coord.admin.change_view import ChangeEvent, change_event
from tailbox.coord.admin.device_view import api_time
from tailbox.coord.admin.errors import NO_STORE, TooManyRequests
from tailbox.coord.admin.operation import Call, Operation
from tailbox.coord.admin.sse import HEARTBEAT, encode_event, encode_retry, parse_last_event_id
from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core.change import Change
from tailbox.coord.core.journal import API_TOKENS, AUTH_KEYS, NODES, SETTINGS, USERS, JournalEntry
from tailbox.coord.metrics import CoordMetrics

HEARTBEAT_S = 15.0  # ours: below the idle time-outs of common proxies
RETRY_MS = 2000
MAX_READERS = 256  # ours: all together
MAX_QUEUED = 256  # ours: events of one reader
MAX_CAUGHT_UP = 1000  # ours: journal entries; beyond them a reader starts anew
MAX_REMEMBERED = 1024  # ours: changes of pending logins, for those who come back
HEADERS = {**NO_STORE, "X-Accel-Buffering": "no"}  # nginx would hold events back


class EventReader:
    """One open stream's queue."""

    def __init__(self) -> None:
        self.is_cut_off = False
        self._queue: deque[bytes] = deque()
        self._ready = asyncio.Event()

    def offer(self, event: bytes) -> None:
        """Queue an event; a full queue ends the stream."""
        if len(self._queue) >= MAX_QUEUED:
            self.cut_off()
        else:
            self._queue.append(event)
            self._ready.set()

    def cut_off(self) -> None:
        """End the stream."""
        self.is_cut_off = True
        self._queue.clear()
        self._ready.set()

    async def next(self, timeout_s: float) -> bytes:
        """What waits, else a heartbeat after a while; empty at the end."""
        if not self._queue and not self.is_cut_off:
            self._ready.clear()
            try:
                await asyncio.wait_for(self._ready.wait(), timeout_s)
            except TimeoutError:
                return HEARTBEAT
        events = b"".join(self._queue)
        self._queue.clear()
        return events


class EventFeed:
    """Renders each change once and hands it to every reader."""

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        clock: Clock,
        server_url: str,
        regions: Mapping[int, str],
        metrics: CoordMetrics,
    ) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._server_url = server_url
        self._regions = regions
        self._readers: set[EventReader] = set()
        self._logins: deque[tuple[int, frozenset[str]]] = deque()  # the journal's sequence, the logins that changed
        self._forgotten_at = coordinator.sequence  # up to which changes of logins may be missing from it
        metrics.event_streams.set_function(lambda: float(len(self._readers)))

    def publish(self, change: Change) -> None:
        """Tell every reader. The caller passes changes in their order, each before anything else can happen: the
        event's id says that its reader knows of everything up to the present sequence.
        """
        sequence = self._coordinator.sequence
        if change.pending_logins:
            self._remember(change.pending_logins, sequence)
        if self._readers and not change.is_empty:
            event = self._encode(self._event_of(change, sequence))
            for reader in tuple(self._readers):
                reader.offer(event)

    def start_anew(self) -> None:
        """Changes may have been missed: every reader has to read everything again."""
        self._logins.clear()
        self._forgotten_at = self._coordinator.sequence
        self.close()

    def close(self) -> None:
        """End every stream."""
        for reader in tuple(self._readers):
            reader.cut_off()

    async def stream(self, last_seen: int | None) -> AsyncIterator[bytes]:
        """The bytes of one stream, from where the reader left off. Raises TooManyRequests."""
        with self._reading() as reader:
            yield encode_retry(RETRY_MS)
            yield await self._beginning(last_seen)
            while not reader.is_cut_off:
                yield await reader.next(HEARTBEAT_S)

    def check_room(self) -> None:
        """Raises TooManyRequests if one more reader is one too many."""
        if len(self._readers) >= MAX_READERS:
            raise TooManyRequests(HEARTBEAT_S)

    @contextmanager
    def _reading(self) -> Iterator[EventReader]:
        reader = EventReader()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    async def _beginning(self, last_seen: int | None) -> bytes:
        newest = self._coordinator.sequence
        if last_seen is None:
            return self._notice("ready", newest)
        if not self._forgotten_at < last_seen <= newest:  # too far back, or the journal of another life
            return self._notice("reset", newest)
        entries: tuple[JournalEntry, ...] = ()
        if last_seen < newest:
            entries = await self._coordinator.tail(last_seen, limit=MAX_CAUGHT_UP + 1)
            if not entries or len(entries) > MAX_CAUGHT_UP:
                return self._notice("reset", newest)
        logins = frozenset[str]().union(*(ids for sequence, ids in self._logins if sequence >= last_seen))
        if not entries and not logins:
            return self._notice("ready", newest)
        missed = change_of(entries).merge(Change(pending_logins=logins))
        return self._encode(self._event_of(missed, entries[-1].sequence if entries else newest))

    def _remember(self, logins: frozenset[str], sequence: int) -> None:
        if len(self._logins) == MAX_REMEMBERED:
            self._forgotten_at, _ = self._logins.popleft()
        self._logins.append((sequence, logins))

    def _event_of(self, change: Change, sequence: int) -> ChangeEvent:
        return change_event(
            self._coordinator.tailnet,
            change,
            sequence=sequence,
            now_unix_s=self._clock.unix_time(),
            server_url=self._server_url,
            regions=self._regions,
        )

    def _notice(self, name: str, sequence: int) -> bytes:
        event = ChangeEvent(sequence, api_time(self._clock.unix_time()), ())
        return encode_event(msgspec.json.encode(event), event=name, event_id=sequence)

    def _encode(self, event: ChangeEvent) -> bytes:
        return encode_event(msgspec.json.encode(event), event="change", event_id=event.sequence)


def change_of(entries: Iterable[JournalEntry]) -> Change:
    """The ids that journal entries touched."""
    touched: dict[str, set[int | str]] = {}
    for entry in entries:
        for row in entry.rows:
            touched.setdefault(row.table, set()).add(row.key)
    return Change(
        nodes=frozenset(int(key) for key in touched.get(NODES, ())),
        users=frozenset(int(key) for key in touched.get(USERS, ())),
        auth_keys=frozenset(str(key) for key in touched.get(AUTH_KEYS, ())),
        api_tokens=frozenset(str(key) for key in touched.get(API_TOKENS, ())),
        has_settings=SETTINGS in touched.get("singletons", ()),
    )


async def stream_events(call: Call) -> Response:
    """GET: an endless answer."""
    feed = call.context.feed
    feed.check_room()
    last_seen = parse_last_event_id(call.request.headers.get("last-event-id"))
    if call.request.method == "HEAD":
        return Response(media_type="text/event-stream", headers=HEADERS)
    return StreamingResponse(feed.stream(last_seen), media_type="text/event-stream", headers=HEADERS)


OPERATIONS = (
    Operation(
        "GET", "/v2/events", stream_events, "streamEvents", "Events",
        "What changes, as server-sent events `ready`, `change` and `reset`. `Last-Event-ID` resumes.",
        answer=ChangeEvent, answer_media_type="text/event-stream", is_extension=True,
    ),
)  # fmt: skip
