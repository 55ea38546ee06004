"""Server-sent events as bytes. Source: WHATWG HTML, §9.2.5 "Parsing an event stream"."""

from __future__ import annotations

HEARTBEAT = b": heartbeat\n\n"  # a comment: proxies see traffic, readers see nothing
MAX_EVENT_ID = 2**63 - 1


def encode_event(data: bytes, *, event: str | None = None, event_id: int | None = None) -> bytes:
    """One event. Line breaks in the data become several `data:` lines, as the format demands."""
    lines: list[bytes] = []
    if event is not None:
        lines.append(b"event: " + event.encode())
    if event_id is not None:
        lines.append(b"id: %d" % event_id)
    normalised = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines.extend(b"data: " + line for line in normalised.split(b"\n"))
    return b"\n".join(lines) + b"\n\n"


def encode_retry(milliseconds: int) -> bytes:
    """Tell the reader how long to wait before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def parse_last_event_id(text: str | None) -> int | None:
    """The journal sequence a reader has seen, or None for a new reader and for what is not a number of ours."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 19:
        return None
    value = int(text)
    return value if value <= MAX_EVENT_ID else None
