"""Telemetry: the account of frames, latencies and memory, as published and as written by --summary."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from psm_stream.stopwatch import Latency, Stopwatch
from psm_stream.values import NoFace, Sighting, Stamp

SCHEMA = 1
MB = 1 << 20
STAGES = ("align", "encode", "cluster", "publish", "capture_to_publish")

if sys.platform != "win32":
    import resource


class Telemetry:
    """Counts every frame once: captured = processed + sum(dropped), after each frame and in every snapshot.

    The account is kept by the thread that processes, from what each frame itself carries (its index and the causes
    of the gap before it), so a snapshot is consistent without a lock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.stopwatch = Stopwatch(clock, STAGES)
        self._clock = clock
        self._start = clock()
        self._end: float | None = None
        self.processed = 0
        self.no_face = 0
        self.dropped: Counter[str] = Counter()
        self._recent = Latency()
        self._recent_start = self._start
        self._recent_processed = 0

    @property
    def captured(self) -> int:
        """Frames accounted for so far."""
        return self.processed + sum(self.dropped.values())

    def start(self) -> None:
        """Begin to count seconds: the stream is ready."""
        self._start = self._recent_start = self._clock()

    def stop(self) -> None:
        """End the count of seconds: what follows is clearing up."""
        self._end = self._clock()

    def count(self, sighting: Sighting) -> None:
        """Account for one frame and for those lost before it."""
        self.dropped.update(sighting.frame.dropped)
        self.processed += 1
        self.no_face += isinstance(sighting, NoFace)

    def count_unprocessed(self, frame: Stamp) -> None:
        """Account for a frame that was on its way when the run stopped, and for those lost before it."""
        self.dropped.update(frame.dropped)
        self.dropped["stop"] += 1

    def count_rest(self, captured: int, undelivered: Mapping[str, int]) -> None:
        """At the end: account for what no frame carries, by cause, and for frames that were on their way ("stop")."""
        self.dropped.update(undelivered)
        rest = captured - self.captured
        if rest > 0:
            self.dropped["stop"] += rest

    def published(self, t_capture: float, t_publish: float) -> None:
        """Count the latency of one embedding."""
        self.stopwatch.add("capture_to_publish", t_publish - t_capture)
        self._recent.add(t_publish - t_capture)

    def recent(self) -> dict[str, float]:
        """Return fps and capture-to-publish percentiles since the last call."""
        now = self._clock()
        seconds = max(now - self._recent_start, 1e-9)
        recent = {"fps": round((self.processed - self._recent_processed) / seconds, 2), **self._recent.summary()}
        self._recent, self._recent_start, self._recent_processed = Latency(), now, self.processed
        return recent

    def summary(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return the summary with what the caller knows `about` the run (source, published, device, ...)."""
        seconds = (self._clock() if self._end is None else self._end) - self._start
        return {
            "schema": SCHEMA,
            **about,
            "frames": {
                "captured": self.captured,
                "processed": self.processed,
                "no_face": self.no_face,
                "dropped": dict(sorted(self.dropped.items())),
            },
            "seconds": round(seconds, 3),
            "fps": round(self.processed / seconds, 2) if seconds > 0 else 0.0,
            "latency_ms": self.stopwatch.summary(),
            "rss_mb": (now_mb := rss_mb()),
            "peak_rss_mb": max(peak_rss_mb(), now_mb),  # the kernel updates the peak late
        }


def rss_mb() -> float:
    """Return the process's resident memory now, in MB."""
    return round(psutil.Process().memory_info().rss / MB, 1)


def peak_rss_mb() -> float:
    """Return the process's largest resident memory so far, in MB."""
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / MB, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / MB if sys.platform == "darwin" else peak * 1024 / MB, 1)
