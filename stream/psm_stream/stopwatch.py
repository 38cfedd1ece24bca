"""Latencies: how long each stage takes, kept in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

_SMALLEST_MS = 1e-3
_STEP = 1.02
_BINS = math.ceil(math.log(1e8 / _SMALLEST_MS, _STEP))


class Latency:
    """A histogram of durations with bins 2 % wide, from 1 microsecond to a day. The maximum is exact."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)
        self.count = 0
        self.max_ms = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        ms = seconds * 1e3
        place = int(math.log(ms / _SMALLEST_MS, _STEP)) if ms > _SMALLEST_MS else 0
        self._counts[min(place, _BINS - 1)] += 1
        self.count += 1
        self.max_ms = max(self.max_ms, ms)

    def percentile_ms(self, percent: float) -> float:
        """Return the upper edge of the percentile's bin (at most 2 % too high); 0 when nothing was counted."""
        if self.count == 0:
            return 0.0
        rank = max(1, math.ceil(self.count * percent / 100))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(min(_SMALLEST_MS * _STEP ** (place + 1), self.max_ms))

    def summary(self) -> dict[str, float]:
        """Return p50, p95, p99 and max in ms, and n."""
        percentiles = {f"p{percent}": round(self.percentile_ms(percent), 3) for percent in (50, 95, 99)}
        return {**percentiles, "max": round(self.max_ms, 3), "n": self.count}


class Stopwatch:
    """Latencies by stage name. One thread only."""

    def __init__(self, clock: Callable[[], float], stages: tuple[str, ...] = ()) -> None:
        self._clock = clock
        self._stages = {stage: Latency() for stage in stages}

    @contextmanager
    def section(self, stage: str) -> Iterator[None]:
        """Time what happens inside."""
        start = self._clock()
        yield
        self.add(stage, self._clock() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Count a duration that was measured elsewhere."""
        self._stages.setdefault(stage, Latency()).add(seconds)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return each stage's percentiles; a stage that never ran has n = 0."""
        return {stage: latency.summary() for stage, latency in self._stages.items()}
