"""Messages in a map stream: u32 **little-endian** length, then that many bytes: JSON, or one zstd frame.

Each zstd frame is complete and independent: no dictionary, no shared window. Source: tailscale
control/controlclient/direct.go (decodeMsg), headscale hscontrol/mapper.
"""

from __future__ import annotations

import struct

import zstandard

from tailbox.errors import Malformed

LENGTH_PREFIX = struct.Struct("<I")
MAX_FRAME_BYTES = 4 * 1024 * 1024  # tailscale cmd/tsp refuses more, compressed or not, so a server must not exceed it
MAX_RECEIVED_BYTES = 64 * 1024 * 1024  # ours: what a client accepts; tailscaled has no limit
MAX_WINDOW_BYTES = 128 * 1024 * 1024  # zstd's own default for streams (ZSTD_WINDOWLOG_LIMIT_DEFAULT)
COMPRESSION_LEVEL = 1  # ours: maps are sent once and compress well at any level


def encode_frame(payload: bytes, *, compress: bool) -> bytes:
    """One message on the wire."""
    if compress:
        payload = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(payload)
    return LENGTH_PREFIX.pack(len(payload)) + payload


class FrameDecoder:
    """Cuts a response body into messages, whatever chunks it arrives in.

    A violation is final: `error` says what was wrong, and later bytes are ignored.
    """

    def __init__(self, *, compressed: bool, max_bytes: int = MAX_RECEIVED_BYTES) -> None:
        self._compressed = compressed
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self.error: Malformed | None = None

    @property
    def is_mid_frame(self) -> bool:
        """Whether the stream, if it ended now, would be cut short."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads completed by `data`, decompressed."""
        messages: list[bytes] = []
        if self.error is not None:
            return messages
        self._buffer += data
        try:
            start = 0
            while (end := self._end_of_frame(start)) is not None:
                messages.append(self._payload(bytes(self._buffer[start + LENGTH_PREFIX.size : end])))
                start = end
            del self._buffer[:start]
        except Malformed as error:
            self.error = error
            self._buffer.clear()
        return messages

    def _end_of_frame(self, start: int) -> int | None:
        if len(self._buffer) - start < LENGTH_PREFIX.size:
            return None
        (length,) = LENGTH_PREFIX.unpack_from(self._buffer, start)
        if not 0 < length <= self._max_bytes:
            raise Malformed(f"frame of {length} bytes, wanted 1 to {self._max_bytes}")
        end = start + LENGTH_PREFIX.size + int(length)
        return end if end <= len(self._buffer) else None

    def _payload(self, payload: bytes) -> bytes:
        if not self._compressed:
            return payload
        # The content size in a frame's header is the sender's claim, and what would be allocated for it.
        try:
            claimed = zstandard.get_frame_parameters(payload).content_size
            if (
                claimed not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)
                and claimed > self._max_bytes
            ):
                raise Malformed(f"frame decompresses to {claimed} bytes, wanted at most {self._max_bytes}")
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
            return decompressor.decompress(payload, max_output_size=self._max_bytes, allow_extra_data=False)
        except zstandard.ZstdError:
            raise Malformed("frame is not one zstd frame within the limits") from None
