"""TAI64N timestamps of initiations: what keeps old ones from being replayed. Source: cr.yp.to/libtai/tai64.html.

Twelve bytes, big-endian: 2⁶² + 10 + Unix seconds (8 B), nanoseconds (4 B). They compare as bytes. The low 24 bits of
the nanoseconds are zero, so that a peer learns our clock to 17 ms and no better (wireguard-go tai64n/tai64n.go).
"""

from __future__ import annotations

import struct

TIMESTAMP_BYTES = 12
TICK_NS = 1 << 24
OLDEST = bytes(TIMESTAMP_BYTES)  # older than anything `timestamp` gives

_LAYOUT = struct.Struct(">QI")
_EPOCH = (1 << 62) + 10
_NS_PER_S = 1_000_000_000


def timestamp(unix_s: float) -> bytes:
    """The stamp of a moment; moments before 1970 count as 1970."""
    seconds, fraction = divmod(max(unix_s, 0.0), 1.0)
    nanoseconds = min(int(fraction * _NS_PER_S), _NS_PER_S - 1)
    return _LAYOUT.pack(_EPOCH + int(seconds), nanoseconds & -TICK_NS)


def timestamp_after(previous: bytes, unix_s: float) -> bytes:
    """The stamp of a moment, or the next one after `previous` if the clock went back or stood still."""
    stamp = timestamp(unix_s)
    if stamp > previous:
        return stamp
    seconds, nanoseconds = _LAYOUT.unpack(previous)
    nanoseconds += TICK_NS
    if nanoseconds >= _NS_PER_S:
        seconds, nanoseconds = seconds + 1, 0
    return _LAYOUT.pack(seconds, nanoseconds)
