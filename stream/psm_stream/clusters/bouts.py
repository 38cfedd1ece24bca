"""Bouts: how long a face stays in a cluster at a time, and where it goes from there.

A bout is a run of frames of one face in one cluster. It ends with a frame in another cluster or in noise, and when the
face is away for more than GAP_S. The time between two frames belongs to the cluster of the first; the last frame before
the face goes away lasts no time. One frame of noise ends a bout.

Transitions look through noise that lasts less than PASSING_S: a face between two expressions is in neither.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

GAP_S = 0.5
"""A face without a frame for longer was away."""
PASSING_S = 0.5
"""Noise that lasts as long is a state of its own."""
NOISE = -1
SHOWN = 40
"""The matrix of transitions has at most so many rows, noise included: the most frequent."""
_MOST_PAIRS = 20_000
_STEP = 1.02
_SMALLEST_S = 1e-3


@dataclass(slots=True)
class _Bout:
    cluster: int
    version: int
    t_first: float
    t_last: float
    came_from: int | None
    """The state before, noise that passed left out; None: not known, since the face, or the clustering, is new."""
    is_counted: bool = False
    """That the face came here from there. Of noise only once it does not pass."""

    @property
    def state(self) -> int | None:
        """Where the face comes from, for what comes next."""
        return self.cluster if self.is_counted else self.came_from


@dataclass(slots=True)
class _Dwell:
    """Finished bouts of one cluster. Their median is read from bins 2 % wide, from a millisecond up."""

    count: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds
        self.longest_s = max(self.longest_s, seconds)
        self.bins[math.ceil(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S, _STEP))] += 1

    def median_s(self) -> float:
        rank = (self.count + 1) // 2
        for place in sorted(self.bins):
            rank -= self.bins[place]
            if rank <= 0:
                return min(_SMALLEST_S * _STEP**place if place else 0.0, self.longest_s)
        return 0.0

    def copy(self) -> _Dwell:
        return _Dwell(self.count, self.seconds, self.longest_s, self.bins.copy())


class Bouts:
    """Follows each face from cluster to cluster."""

    def __init__(self) -> None:
        self._now: dict[int, _Bout] = {}  # by face id
        self._dwell: dict[int, _Dwell] = {}
        self._pairs: Counter[tuple[int, int]] = Counter()

    def see(self, face_id: int, cluster: int, version: int, t: float) -> None:
        """Take a frame of a face, at its own time t (s). cluster: -1 is noise, a state as any other."""
        now, came_from = self._now.get(face_id), None
        if now is None or not 0 <= t - now.t_last <= GAP_S:
            self.lose(face_id)
        elif now.cluster == cluster:
            self._go_on(now, version, t)
            return
        else:
            self._go_on(now, now.version, t)
            if now.version == version:  # a new clustering may give another id to a face that did not move
                came_from = now.state
            self.lose(face_id)
        self._now[face_id] = begun = _Bout(cluster, version, t, t, came_from)
        self._go_on(begun, version, t)

    def _go_on(self, bout: _Bout, version: int, t: float) -> None:
        bout.version, bout.t_last = version, t
        if not bout.is_counted and (bout.cluster != NOISE or t - bout.t_first >= PASSING_S):
            bout.is_counted = True
            if bout.came_from is not None and bout.came_from != bout.cluster:
                self._count(bout.came_from, bout.cluster)

    def lose(self, face_id: int) -> None:
        """End a face's bout."""
        ended = self._now.pop(face_id, None)
        if ended is not None:
            self._dwell.setdefault(ended.cluster, _Dwell()).add(ended.t_last - ended.t_first)

    def of(self, cluster: int) -> dict[str, Any]:
        """Return seconds, bouts and dwell_s of a cluster, those that still go on included, as plain values."""
        dwell = self._dwell.get(cluster, _Dwell()).copy()
        for bout in self._now.values():
            if bout.cluster == cluster:
                dwell.add(bout.t_last - bout.t_first)
        mean = dwell.seconds / dwell.count if dwell.count else 0.0
        times = {"mean": mean, "p50": dwell.median_s(), "max": dwell.longest_s}
        return {
            "seconds": round(dwell.seconds, 3),
            "bouts": dwell.count,
            "dwell_s": {name: round(seconds, 3) for name, seconds in times.items()} if dwell.count else None,
        }

    def transitions(self) -> dict[str, Any]:
        """Return how often a face went from one cluster (row) to another (column); noise, -1, comes first.

        From 3 through short noise back to 3 is none.
        """
        often: Counter[int] = Counter()
        for (source, target), count in self._pairs.items():
            often[source] += count
            often[target] += count
        clusters = sorted(cluster for cluster, _ in often.most_common(SHOWN))
        counts = [[self._pairs[source, target] for target in clusters] for source in clusters]
        return {"clusters": clusters, "counts": counts}

    def _count(self, source: int, target: int) -> None:
        self._pairs[source, target] += 1
        if len(self._pairs) > _MOST_PAIRS:  # only a large vocabulary comes here
            self._pairs = Counter(dict(self._pairs.most_common(_MOST_PAIRS // 2)))
