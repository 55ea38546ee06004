"""The first step of reading DERP: a byte stream cut into frames, before any payload has a meaning (`wire/derp.py`)."""

from __future__ import annotations

from collections.abc import Mapping

from tailbox.errors import Malformed, WireError
from tailbox.wire.derp import FRAME_HEADER

MAX_FRAME_BYTES = 1024 * 1024  # derp_client.go: a longer frame is fatal


class FrameSplitter:
    """Cuts a byte stream into frames, whatever its chunks are. Holds at most one unfinished frame."""

    def __init__(
        self, limits: Mapping[int, int], *, other_limit: int = MAX_FRAME_BYTES, keep_others: bool = True
    ) -> None:
        """`limits`: longest payload by frame type; `other_limit` for types not named. A longer one is an error.

        Without `keep_others` the payload of types not named is thrown away as it comes: they appear empty.
        """
        self._limits = {int(frame_type): limit for frame_type, limit in limits.items()}  # plain integers are quicker
        self._other_limit = other_limit
        self._keep_others = keep_others
        self._skip_bytes = 0  # still to come of a frame that is thrown away
        self._pending = bytearray()
        self._wanted = FRAME_HEADER.size
        self.error: WireError | None = None  # set once, by a header that breaks the limits; nothing is read after it

    @property
    def has_failed(self) -> bool:
        """Whether the stream has broken the limits."""
        return self.error is not None

    @property
    def pending_bytes(self) -> int:
        """How much of an unfinished frame is held."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that `data` completes, as (type, payload). Never raises: see `error`.

        Plain tuples, because a relay makes hundreds of thousands a second.
        """
        if self.error is not None:
            return []
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped
            data = data[skipped:]
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted:
                return []
            data = bytes(self._pending)
            self._pending.clear()
        return self._cut(data)

    def _cut(self, data: bytes) -> list[tuple[int, bytes]]:
        """The whole frames at the front of `data`; what is left waits for the next bytes."""
        frames: list[tuple[int, bytes]] = []
        offset, size, header_bytes = 0, len(data), FRAME_HEADER.size
        limits, other_limit, unpack = self._limits, self._other_limit, FRAME_HEADER.unpack_from
        wanted = header_bytes
        while size - offset >= header_bytes:
            frame_type, length = unpack(data, offset)
            if length > limits.get(frame_type, other_limit):
                self.error = Malformed(f"frame of type {frame_type:#04x} and {length} bytes")
                return frames
            start = offset + header_bytes
            end = start + length
            if frame_type not in limits and not self._keep_others:
                offset = min(end, size)
                self._skip_bytes = end - offset
                frames.append((frame_type, b""))
                continue
            if end > size:
                wanted = header_bytes + length
                break
            offset = end
            frames.append((frame_type, data[start:end]))
        self._wanted = wanted
        self._pending += data[offset:] if offset else data
        return frames
