"""Load and rate limits of handshakes."""

from __future__ import annotations

from unittest import mock

from tailbox.wireguard import admission
from tailbox.wireguard.admission import AFFORDABLE_HANDSHAKES_PER_S, LOAD_THRESHOLD, LoadMeter, SourceLimiter


def test_a_steady_affordable_rate_is_no_load() -> None:
    meter = LoadMeter()
    assert not any(meter.note_arrival(now=step / AFFORDABLE_HANDSHAKES_PER_S) for step in range(2000))


def test_a_burst_is_load_until_a_second_after_it() -> None:
    meter = LoadMeter()
    loaded = [meter.note_arrival(now=0.0) for _ in range(int(LOAD_THRESHOLD))]
    assert loaded == [False] * (len(loaded) - 1) + [True]
    assert meter.note_arrival(now=0.9)
    assert not meter.note_arrival(now=1.1)


def test_a_flood_keeps_the_load_up() -> None:
    meter = LoadMeter()
    loaded = [meter.note_arrival(now=step / 5000) for step in range(25_000)]
    assert all(loaded[200:])


def test_a_source_gets_a_burst_and_then_its_rate() -> None:
    limiter = SourceLimiter()
    assert [limiter.allows(b"hostpp", now=0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not limiter.allows(b"host!!", now=0.0)  # another port of the same host
    assert limiter.allows(b"tsohpp", now=0.0)
    granted = sum(limiter.allows(b"hostpp", now=step / 1000) for step in range(1000))
    assert 19 <= granted <= 20


def test_all_sources_together_have_a_limit_too() -> None:
    limiter = SourceLimiter()
    granted = sum(limiter.allows(b"%08dpp" % step, now=0.0) for step in range(1000))
    assert granted == int(LOAD_THRESHOLD)


def test_sources_are_forgotten_and_never_too_many() -> None:
    limiter = SourceLimiter()
    with mock.patch.object(admission, "MAX_SOURCES", 10):
        granted = [limiter.allows(b"%08dpp" % step, now=0.0) for step in range(12)]
        assert granted == [True] * 10 + [False] * 2
        assert len(limiter) == 10
        assert limiter.allows(b"latecomerpp", now=2.0)
        assert len(limiter) == 1
