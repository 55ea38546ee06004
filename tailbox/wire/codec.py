"""Cursors for binary formats, big-endian: a Reader that says Truncated instead of IndexError, and a Writer."""

from __future__ import annotations

import struct

from tailbox.errors import Malformed, Truncated

U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")


class Reader:
    """Reads a buffer from the front. Every method raises Truncated when the buffer ends too early."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._position = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        return bytes(self._data[self._advance(count) : self._position])

    def skip(self, count: int) -> None:
        self._advance(count)

    def u8(self) -> int:
        return self._data[self._advance(1)]

    def u16(self) -> int:
        value: int = U16.unpack_from(self._data, self._advance(2))[0]
        return value

    def u32(self) -> int:
        value: int = U32.unpack_from(self._data, self._advance(4))[0]
        return value

    def u64(self) -> int:
        value: int = U64.unpack_from(self._data, self._advance(8))[0]
        return value

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(self.remaining)

    def finish(self) -> None:
        """Raises Malformed if anything is left, for formats that allow no trailing bytes."""
        if self.remaining:
            raise Malformed(f"{self.remaining} bytes too many")

    def _advance(self, count: int) -> int:
        """Move on and return where the field starts."""
        start = self._position
        if not 0 <= count <= len(self._data) - start:
            raise Truncated(f"wanted {count} bytes at offset {start}, {len(self._data) - start} left")
        self._position = start + count
        return start


class Writer:
    """Appends fields to a buffer; calls chain. Values out of range are our own bugs and raise struct.error."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def put(self, value: bytes | memoryview) -> Writer:
        self._data += value
        return self

    def u8(self, value: int) -> Writer:
        self._data += struct.pack(">B", value)
        return self

    def u16(self, value: int) -> Writer:
        self._data += U16.pack(value)
        return self

    def u32(self, value: int) -> Writer:
        self._data += U32.pack(value)
        return self

    def u64(self, value: int) -> Writer:
        self._data += U64.pack(value)
        return self

    def zeros(self, count: int) -> Writer:
        self._data += b"\0" * count
        return self

    def finish(self) -> bytes:
        """What was written so far."""
        return bytes(self._data)
