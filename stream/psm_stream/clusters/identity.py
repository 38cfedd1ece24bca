"""Which of the new clusters is which of the old, judged by the faces that they share.

Hungarian assignment is written out here, since scipy takes a second to import and this runs in the live process.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.clustering import Change, Kind

HALF = 0.5
"""A cluster carries an id on only if it has this share of the id's faces, or consists of them to this share."""
RETURN = 0.75
"""An id that had gone returns only with this share of its faces."""


@dataclass(frozen=True, slots=True)
class Matching:
    """What has become of ids.

    ids: [L] int32, the id of each new label. known: [n] int32, what each face is known as from now on. alive: ids now.
    """

    ids: NDArray[np.int32]
    known: NDArray[np.int32]
    changes: tuple[Change, ...]
    alive: frozenset[int]
    next_id: int


def match(known: NDArray[np.int32], labels: NDArray[np.int32], alive: frozenset[int], next_id: int) -> Matching:
    """Give each new cluster an id.

    Args:
        known: [n], the id that each face is known by, -1 for none.
        labels: [n], the new cluster of each face, 0, 1, ..., -1 for noise.
        alive: Ids of the clusters before.
        next_id: The first id that was never used.
    """
    count = int(labels.max(initial=-1)) + 1
    remembered = (known >= 0) & (labels >= 0)
    old, rows = np.unique(known[remembered], return_inverse=True)
    table = np.zeros((len(old), count), dtype=np.int64)
    np.add.at(table, (rows, labels[remembered]), 1)
    sizes = np.bincount(labels[labels >= 0], minlength=count)
    carried = _carry(table, sizes, np.array([int(one) in alive for one in old], dtype=bool))
    ids = np.full(count, -1, dtype=np.int32)
    for row, label in carried:
        ids[label] = old[row]
    for label in sorted(np.flatnonzero(ids < 0).tolist(), key=lambda label: -sizes[label]):
        ids[label] = next_id
        next_id += 1
    now = frozenset(ids.tolist())
    after = np.where(labels >= 0, np.append(ids, -1)[labels], -1).astype(np.int32)
    changes = _changes(known, after, alive, now)
    is_gone = np.array([int(one) >= 0 and int(one) not in now for one in known], dtype=bool)
    return Matching(ids, np.where((after >= 0) & ~is_gone, after, known).astype(np.int32), changes, now, next_id)


def _carry(table: NDArray[np.int64], sizes: NDArray[np.int64], is_alive: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return which old id goes on in which label: pairs of a row and a column of `table` [ids, L]."""
    if not table.size:
        return []
    faces, remembered = table.sum(axis=1, keepdims=True), table.sum(axis=0)
    overlap = table / np.maximum(faces + remembered - table, 1)
    may = (table >= HALF * faces) | (table >= HALF * np.maximum(sizes, 1))
    may &= is_alive[:, None] | (table >= RETURN * faces)
    weights = np.where(may & (table > 0), overlap * np.where(is_alive, 1.0, 0.5)[:, None], 0.0)
    return [(row, label) for row, label in assign(weights) if weights[row, label] > 0]


def _changes(
    known: NDArray[np.int32], after: NDArray[np.int32], alive: frozenset[int], now: frozenset[int]
) -> tuple[Change, ...]:
    flows: dict[tuple[int, int], int] = {}
    for before, here in zip(known.tolist(), after.tolist(), strict=True):
        if before in alive and here >= 0 and before != here:
            flows[before, here] = flows.get((before, here), 0) + 1
    points = {one: int((after == one).sum()) for one in now}
    was = {one: int((known == one).sum()) for one in alive}
    found: dict[tuple[Kind, int], list[int]] = {}
    begun = sorted(now - alive)
    explained: set[tuple[int, int]] = set()
    for one in sorted(alive - now):
        into = {here: share for (before, here), share in flows.items() if before == one}
        noise = int(((known == one) & (after < 0)).sum())
        best = max(into, key=lambda here: (into[here], -here), default=-1)
        if best >= 0 and into[best] >= noise:
            found.setdefault(("merged", best), []).append(one)
            explained.add((one, best))
        else:
            found["retired", one] = []
    for one in begun:
        out_of = [before for (before, here), share in flows.items() if here == one and share > 0 and before in now]
        is_known = bool((known == one).any())
        best = max(out_of, key=lambda before: flows[before, one], default=-1)
        if is_known:
            found["returned", one] = [best] if best >= 0 else []
            explained.add((best, one))
        elif best >= 0 and 2 * flows[best, one] > int(((after == one) & (known >= 0)).sum()):
            found.setdefault(("split", best), []).append(one)
            explained.add((best, one))
        else:
            found["born", one] = []
    for before, here in sorted(flows.keys() - explained):
        found.setdefault(("moved", here), []).append(before)
    return tuple(
        Change(kind, one, tuple(sorted(others)), was[one] if kind == "retired" else points.get(one, 0))
        for (kind, one), others in found.items()
    )


def assign(weights: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns of `weights` [R, C], min(R, C) of them, so that the sum is greatest.

    O(n^3). Source: Kuhn 1955 and Munkres 1957, by shortest augmenting paths with potentials (Jonker, Volgenant 1987).
    """
    rows, columns = weights.shape
    if rows > columns:
        return sorted((row, column) for column, row in assign(weights.T))
    cost = -weights
    of_row, of_column = np.zeros(rows), np.zeros(columns)  # potentials
    taken = np.full(columns, -1)  # by which row
    for start in range(rows):
        least, through = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, dtype=bool)
        row, last, length = start, -1, 0.0
        while row >= 0:
            through_here = length + cost[row] - of_row[row] - of_column
            is_less = ~done & (through_here < least)
            least[is_less], through[is_less] = through_here[is_less], last
            last = int(np.argmin(np.where(done, np.inf, least)))
            length, row = float(least[last]), int(taken[last])
            done[last] = True
        of_row[start] += length
        for column in np.flatnonzero(done):
            if taken[column] >= 0:
                of_row[taken[column]] += length - least[column]
            of_column[column] -= length - least[column]
        while last >= 0:
            before = int(through[last])
            taken[last] = start if before < 0 else taken[before]
            last = before
    return sorted((int(row), column) for column, row in enumerate(taken.tolist()) if row >= 0)
