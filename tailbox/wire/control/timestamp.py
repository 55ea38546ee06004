"""Go's time.Time as JSON: RFC 3339 with up to nine fractional digits, any offset, and a zero of year 1.

Kept as whole nanoseconds since 1970, since neither nine digits nor year 1 survive `datetime.timestamp()`.
Source: Go time.Time.MarshalJSON; control reference §0.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Self

from tailbox.errors import Malformed

NANOSECONDS = 1_000_000_000
YEAR_ONE_UNIX_S = -62_135_596_800  # 0001-01-01T00:00:00Z, Go's zero time
YEAR_10000_UNIX_S = 253_402_300_800  # the first second that RFC 3339 cannot write
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,20}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


class Timestamp:
    """A moment, to the nanosecond."""

    __slots__ = ("unix_ns",)

    def __init__(self, unix_ns: int) -> None:
        self.unix_ns = unix_ns

    @classmethod
    def from_unix(cls, unix_s: float) -> Self:
        """Whole microseconds: more than a double has. Outside the years 1 to 9999 the nearest of them."""
        bounded = min(max(unix_s, YEAR_ONE_UNIX_S), YEAR_10000_UNIX_S - 1)
        return cls(round(bounded * 1_000_000) * 1000)

    @classmethod
    def zero(cls) -> Self:
        """Year 1: Go's "none", and in a delta "never"."""
        return cls(YEAR_ONE_UNIX_S * NANOSECONDS)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises Malformed."""
        match = RFC_3339.fullmatch(text)
        if match is None:
            raise Malformed("not an RFC 3339 time")
        year, month, day, hour, minute, second = (int(group) for group in match.groups()[:6])
        try:
            # A leap second is the next minute's first, as in POSIX time.
            whole = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC) - EPOCH
        except ValueError:
            raise Malformed("not an RFC 3339 time") from None
        if second > 60:
            raise Malformed("not an RFC 3339 time")
        seconds = whole // timedelta(seconds=1) + (second == 60)
        if match[9] is not None:
            offset = 3600 * int(match[10]) + 60 * int(match[11])
            seconds += offset if match[9] == "-" else -offset
        return cls(seconds * NANOSECONDS + int((match[7] or "0")[:9].ljust(9, "0")))

    @property
    def unix_s(self) -> float:
        return self.unix_ns / NANOSECONDS

    @property
    def is_zero(self) -> bool:
        return self.unix_ns == YEAR_ONE_UNIX_S * NANOSECONDS

    def __str__(self) -> str:
        seconds, nanoseconds = divmod(self.unix_ns, NANOSECONDS)
        seconds = min(max(seconds, YEAR_ONE_UNIX_S), YEAR_10000_UNIX_S - 1)
        moment = EPOCH + timedelta(seconds=seconds)
        fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
        return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}Z"

    def __repr__(self) -> str:
        return f"Timestamp({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and other.unix_ns == self.unix_ns

    def __lt__(self, other: Timestamp) -> bool:
        return self.unix_ns < other.unix_ns

    def __hash__(self) -> int:
        return hash(self.unix_ns)
