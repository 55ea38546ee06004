"""Which region is home: the fastest, but not at the first flicker. Source: paths.md §2.4; netcheck.go."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from tailbox.randomness import RandomSource, integer_below

HISTORY_S = 305.0  # netcheck.go: five minutes and a bit
ABSOLUTE_LEAD_S = 0.010  # netcheck.go preferredDERPAbsoluteDiff: less is no reason to move
HEARD_LATELY_S = 8.0  # netcheck.go PreferredDERPFrameTime
HEARD_AT_ALL_S = 120.0  # netcheck.go: twice the relay's keep-alive


class HomeRelay:
    """Chooses after every report. `region_id` is 0 until there is a home."""

    def __init__(self, *, random: RandomSource) -> None:
        self._random = random
        self._history: deque[tuple[float, dict[int, float]]] = deque()
        self._heard_at: dict[int, float] = {}
        self._fallback = 0
        self.region_id = 0

    def heard(self, region_id: int, *, now: float) -> None:
        """The relay of this region sent something."""
        self._heard_at[region_id] = now

    def choose(
        self,
        latency_s: Mapping[int, float],
        *,
        eligible: frozenset[int],
        scores: Mapping[int, float] | None = None,
        started_at: float | None = None,
        now: float,
    ) -> int:
        """Take a report's latencies. `eligible`: regions that may be home; `started_at`: when the report began."""
        scores = scores or {}
        scaled = {region: value * _score(scores, region) for region, value in latency_s.items() if region in eligible}
        self._history.append((now, dict(latency_s)))
        while self._history[0][0] < now - HISTORY_S:
            self._history.popleft()
        if self.region_id not in eligible:
            self.region_id = 0
        self.region_id = self._best(scaled, scores, started_at if started_at is not None else now, now)
        if not self.region_id:
            self.region_id = self._any(eligible)
        return self.region_id

    def _best(self, scaled: Mapping[int, float], scores: Mapping[int, float], started_at: float, now: float) -> int:
        old, last_heard_at = self.region_id, self._heard_at.get(self.region_id, float("-inf"))
        if not scaled:
            return old if now - last_heard_at < HEARD_AT_ALL_S else 0
        recent = self._best_recent(scores)
        best = min(scaled, key=lambda region: (recent[region], region != old, region))
        if best == old or not old:
            return best
        old_now_s = scaled.get(old, 0.0)
        was_heard = last_heard_at >= started_at or now - last_heard_at < HEARD_LATELY_S
        if not old_now_s and not was_heard:
            return best
        is_close = old_now_s - recent[best] < ABSOLUTE_LEAD_S or recent[best] > old_now_s * 2 / 3
        return old if is_close else best

    def _best_recent(self, scores: Mapping[int, float]) -> dict[int, float]:
        best: dict[int, float] = {}
        for _, latencies in self._history:
            for region, value in latencies.items():
                scaled = value * _score(scores, region)
                best[region] = min(scaled, best.get(region, scaled))
        return best

    def _any(self, eligible: frozenset[int]) -> int:
        """Nothing answers: some region, and always the same one, so that peers find us at one place."""
        if not eligible:
            return 0
        if self._fallback not in eligible:
            ordered = sorted(eligible)
            self._fallback = ordered[integer_below(self._random, len(ordered))]
        return self._fallback


def _score(scores: Mapping[int, float], region: int) -> float:
    score = scores.get(region, 1.0)
    return score if score > 0 else 1.0
