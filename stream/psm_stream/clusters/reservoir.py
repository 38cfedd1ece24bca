"""The faces that clusters are made of: the recent ones, and a fair share of each cluster that was ever seen.

A row never changes and holds its crop by reference, so a copy of the reservoir is a tuple of references: handing it to
a thread costs the live loop nothing.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from psm_stream.config import ClustersSettings
from psm_stream.values import Embedding, Image, Stamp

MIN_CONFIDENCE = 0.8
"""Faces that the aligner is less sure of are not clustered; an aligner that gives no confidence passes."""
EARLY = 0.1
"""A face may come so much before it is due, in periods, so that jitter does not lower the rate."""


@dataclass(frozen=True, slots=True)
class Row:
    """One face of the reservoir.

    key: 0, 1, ... in the order of arrival; negative for faces of earlier sessions. t: s, as `time_of`.
    crop: [S, S, 3] RGB. vector: [D] float32, of the encoder `model_id`. known: the id of the last cluster that it was
    in, also while it is noise; -1 if it never was in any. before: its id when that id ended in another; -1: none.
    """

    key: int
    face_id: int
    frame_index: int
    t: float
    crop: Image
    vector: NDArray[np.float32]
    model_id: str
    known: int
    before: int = -1


class Reservoir:
    """Rows to fit clusters on: half of them the newest, half kept from before. For the main thread.

    A row that is no longer among the newest is offered to the kept half. That is shared fairly: while it is too full,
    the group (the rows of one known id; those of none are one, too) that is largest loses the row that has drawn the
    highest number. Each row's number is drawn once, from its key, so that what stays of a group is a uniform sample of
    what it ever had there (bottom-k sampling: Cohen, Kaplan 2007) without counting, whatever becomes of ids and shares.
    An expression that was rare, or was last seen long ago, so stays in each fit, and finds its id again.

    There are at most as many groups as can hold `min_cluster_size` rows each; beyond, the id that was seen last longest
    ago is forgotten.
    """

    def __init__(self, settings: ClustersSettings) -> None:
        self._period_s = 1 / settings.rate_hz
        self._seed = settings.seed
        self._newest: deque[Row] = deque()
        self._newest_capacity = settings.capacity - settings.capacity // 2
        self._kept: dict[int, list[tuple[int, Row]]] = {}  # by known id: heaps, the highest number first to go
        self._kept_capacity = settings.capacity // 2
        self._most_groups = max(2, self._kept_capacity // settings.min_cluster_size)
        self._last_seen: dict[int, int] = {}  # key of the newest row, by known id
        self._due: dict[int, float] = {}  # when the next row is wanted, by face id
        self.written = 0
        """Rows that were ever taken from the stream."""

    def offer(self, embedding: Embedding, *, all_of_them: bool) -> bool:
        """Take a face, if the aligner is sure of it and one is due of this face id. all_of_them: each one is due."""
        face = embedding.face
        t = time_of(face.frame)
        if face.confidence < MIN_CONFIDENCE or not (self._is_due(face.face_id, t) or all_of_them):
            return False
        known = embedding.assignment.cluster
        where = (self.written, face.face_id, face.frame.index, t)
        self._newest.append(Row(*where, face.crop, embedding.vector, embedding.model_id, known))
        self._last_seen[known] = self.written
        self.written += 1
        if len(self._newest) > self._newest_capacity:
            self._keep(self._newest.popleft())
            self._make_room()
        return True

    def rows(self) -> tuple[Row, ...]:
        """All rows: those kept, then the newest."""
        return (*(row for group in self._kept.values() for _, row in group), *self._newest)

    def update(
        self,
        keys: Sequence[int],
        *,
        vectors: NDArray[np.float32] | None,
        model_id: str,
        known: NDArray[np.int32],
        before: NDArray[np.int32] | None = None,
    ) -> None:
        """Note what a fit has found of rows; those that have left meanwhile are passed over.

        vectors: [n, D], new ones, of the encoder `model_id`; None: the rows' own. known, before: [n], their ids now.
        """
        ids = zip(known.tolist(), (np.full_like(known, -1) if before is None else before).tolist(), strict=True)
        found = dict(zip(keys, enumerate(ids), strict=True))

        def updated(row: Row) -> Row:
            if row.key not in found:
                return row
            place, (known, before) = found[row.key]
            if vectors is not None:
                return replace(row, vector=vectors[place], model_id=model_id, known=known, before=before)
            return row if (row.known, row.before) == (known, before) else replace(row, known=known, before=before)

        rows = [updated(row) for row in self.rows()]
        newest = len(rows) - len(self._newest)
        self._newest = deque(rows[newest:])
        for row in rows:
            self._last_seen[row.known] = max(row.key, self._last_seen.get(row.known, row.key))
        self._kept.clear()
        for row in rows[:newest]:
            self._keep(row)
        self._make_room()

    def seed(self, rows: Iterable[Row]) -> None:
        """Keep faces of earlier sessions."""
        for row in rows:
            self._last_seen.setdefault(row.known, row.key)
            self._keep(row)
        self._make_room()

    def _is_due(self, face_id: int, t: float) -> bool:
        due = self._due.get(face_id, -math.inf)
        if not due - 2 * self._period_s < t < due + self._period_s:  # the first, or after a gap, or begun again
            due = t
        if t < due - EARLY * self._period_s:
            return False
        self._due[face_id] = due + self._period_s
        return True

    def _keep(self, row: Row) -> None:
        heapq.heappush(self._kept.setdefault(row.known, []), (-drawn(row.key, self._seed), row))

    def _make_room(self) -> None:
        while len(self._kept.keys() - {-1}) >= self._most_groups:
            del self._kept[min(self._kept.keys() - {-1}, key=lambda known: self._last_seen[known])]
        for _ in range(sum(map(len, self._kept.values())) - self._kept_capacity):
            heapq.heappop(max(self._kept.values(), key=len))


def drawn(key: int, seed: int) -> int:
    """Return the number below 2^64 that a key draws: always the same, and no two the same.

    Source: Steele, Lea, Flood 2014, the generator SplitMix64; this is its output number `key` from the state `seed`.
    """
    mask = (1 << 64) - 1
    number = (key * 0x9E3779B97F4A7C15 + seed) & mask
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & mask
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & mask
    return number ^ number >> 31


def time_of(stamp: Stamp) -> float:
    """The frame's own time where its medium has one, so that two runs over one file are equal; else when it came."""
    return stamp.t_capture if math.isnan(stamp.t_source) else stamp.t_source
