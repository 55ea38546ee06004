"""Server-sent events, read back by a parser written from the standard's own algorithm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.coord.admin.sse import HEARTBEAT, encode_event, encode_retry, parse_last_event_id


def parse(stream: bytes) -> list[tuple[str | None, str, str | None]]:
    """(event, data, id) of each event. Source: WHATWG HTML §9.2.6."""
    events: list[tuple[str | None, str, str | None]] = []
    event: str | None = None
    event_id: str | None = None
    data: list[str] = []
    for line in stream.decode().split("\n"):
        if line == "":
            if data:
                events.append((event, "\n".join(data), event_id))
            event, data = None, []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "id":
            event_id = value
        elif name == "data":
            data.append(value)
    return events


@given(text=st.text(), event_id=st.integers(0, 2**63 - 1))
def test_an_event_reads_back_with_its_line_breaks_normalised(text: str, event_id: int) -> None:
    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    stream = encode_event(text.encode("utf-8", "replace"), event="change", event_id=event_id)
    assert parse(stream) == [("change", wanted.encode("utf-8", "replace").decode(), str(event_id))]


def test_heartbeats_and_retries_are_no_events() -> None:
    assert parse(HEARTBEAT + encode_retry(2000) + HEARTBEAT) == []
    assert parse(HEARTBEAT + encode_event(b"x")) == [(None, "x", None)]


@pytest.mark.parametrize(
    ("text", "sequence"),
    [
        *[(None, None), ("0", 0), ("17", 17), ("", None), ("-1", None), ("1.5", None), ("x", None), ("٣", None)],
        *[("9" * 40, None), (str(2**63 - 1), 2**63 - 1), (str(2**63), None)],
    ],
)
def test_last_event_ids_are_numbers_of_ours_or_nothing(text: str | None, sequence: int | None) -> None:
    assert parse_last_event_id(text) == sequence
