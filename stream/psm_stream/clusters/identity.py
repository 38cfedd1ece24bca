"""Which of the new clusters is which of the old, judged by the faces that they share, so that ids keep their meaning.

One rule serves refits, returns, other encoders and the next session alike: each face remembers the id that it had, and
a new cluster carries on the id that its faces remember.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.clustering import Change, Kind

HALF = 0.5
"""A cluster carries an id on only if it has this share of the id's faces, or consists of them to this share."""
RETURN = 0.75
"""An id that had gone returns where this share of its faces is, whatever else is there."""
RETURNING = 0.5
"""What the likeness of an id that had gone counts, beside one that goes on."""
FIRM = 3
"""A cluster that was long whole is split after so many more fits have seen it apart than whole."""

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Matching:
    """What has become of ids.

    ids: [L], the id of each new label; parts of a cluster whose split is in doubt have one id. known: [n], the last id
    that each face had. before: [n], the id that a face had when that id ended in another; -1: none. firm: of each id
    that there is now, 1..FIRM. next_id: the first that was never given.
    """

    ids: Ids
    known: Ids
    before: Ids
    changes: tuple[Change, ...]
    firm: dict[int, int]
    next_id: int

    @property
    def alive(self) -> frozenset[int]:
        """The ids that there are now."""
        return frozenset(self.firm)


def match(
    known: Ids,
    labels: Ids,
    alive: frozenset[int],
    next_id: int,
    *,
    before: Ids | None = None,
    firm: Mapping[int, int] | None = None,
) -> Matching:
    """Give each new cluster an id.

    Going on: of all pairings of ids with clusters, that whose likenesses add up to most (Kuhn 1955). The likeness is
    faces of both over faces of either (Jaccard), of the faces that remember an id and are in any cluster now. A pair
    counts only if the cluster has half of the id's faces, or half of the cluster's faces are the id's. So a split's
    largest part keeps the id, a merge keeps that of the larger part, and what drifts slowly stays what it is.

    Returning: an id that is not alive is paired like the others, at half the likeness, if three quarters of its faces
    are in the cluster, or half of them, and they are half of those there that remember any. A face whose id ended in
    another remembers the one that ended, for as long as it stays in the other, so that what parts again finds its ids.
    No memory ends an id that is alive and that most faces of a cluster have.

    Splitting: fits of almost the same faces differ in whether a cluster is one or several. A cluster most of whose
    faces come from one id that another carries on is shown as that id, until the id's firmness, which begins at 1 (3
    after a merge or return), rises with each fit that sees it whole (to 3) and falls with each that sees it apart, has
    come to 0. Merges are taken at once: the fit no longer tells the parts from each other.

    Changes: each id that begins is born, returned or split off, each that ends is merged or retired, once; and if a
    face had another id before, some change names both.

    Args:
        known: [n], the last id of each face, -1 for none.
        labels: [n], the new cluster of each face, 0..L-1, each of which occurs, or -1 for noise.
        alive: Ids of the clusters before.
        next_id: The first id that was never given. New ids go to the largest cluster first.
        before: [n], the `before` of earlier matchings, -1 for new faces.
        firm: The `firm` of the matching before; those that it lacks are at 1.
    """
    before = np.full_like(known, -1) if before is None else before
    firm = dict.fromkeys(alive, 1) | dict(firm or {})
    ids = _carried(np.where(before >= 0, before, known), labels, alive)
    apart = _settle(ids, known, labels, alive, firm)
    unnamed = np.flatnonzero(ids < 0)
    sizes = np.bincount(labels[labels >= 0], minlength=len(ids))[unnamed]
    ids[unnamed[np.argsort(-sizes, kind="stable")]] = next_id + np.arange(len(unnamed))
    here = frozenset(ids.tolist())
    now = np.append(ids, np.int32(-1))[labels]
    changes = _changes(known, now, alive, here, next_id)
    return Matching(
        ids=ids,
        known=np.where(now >= 0, now, known),
        before=_remembered(known, now, before, alive, here),
        changes=changes,
        firm={one: _firmness(one, firm.get(one), one in apart, changes) for one in sorted(here)},
        next_id=next_id + len(unnamed),
    )


def _carried(remembered: Ids, labels: Ids, alive: frozenset[int]) -> Ids:
    """Return the id that each label [L] carries on, or -1."""
    count = int(labels.max(initial=-1)) + 1
    is_both = (remembered >= 0) & (labels >= 0)
    old, row = np.unique(remembered[is_both], return_inverse=True)
    table = np.zeros((len(old), count), np.int64)
    np.add.at(table, (row, labels[is_both]), 1)
    faces, there = table.sum(axis=1, keepdims=True), table.sum(axis=0)
    size = np.bincount(labels[labels >= 0], minlength=count)
    is_alive = np.isin(old, list(alive))[:, None]
    goes_on = (table >= HALF * faces) | (table >= HALF * size)
    returns = (table >= RETURN * faces) | ((table >= HALF * faces) & (table >= HALF * there))
    may = (table > 0) & np.where(is_alive, goes_on, returns)
    likeness = table / np.maximum(faces + there - table, 1)
    ids = np.full(count, -1, np.int32)
    for one, label in assign(np.where(may, likeness * np.where(is_alive, 1.0, RETURNING), 0.0)):
        if may[one, label]:
            ids[label] = old[one]
    return ids


def _settle(ids: Ids, known: Ids, labels: Ids, alive: frozenset[int], firm: Mapping[int, int]) -> frozenset[int]:
    """Write into `ids` the ids that memories must not end, and those of wholes whose split is in doubt.

    Returns the ids that are apart.
    """
    settled = alive & frozenset(ids.tolist())
    others = [label for label, one in enumerate(ids.tolist()) if one not in settled]
    sizes = np.bincount(labels[labels >= 0], minlength=len(ids))
    apart: set[int] = set()
    for label in sorted(others, key=lambda label: (ids[label] < 0, -sizes[label])):  # those that would return first
        source = _most_of(known[labels == label])
        if source in settled:
            apart.add(source)
            if firm.get(source, FIRM) > 1:
                ids[label] = source
        elif source in alive:
            ids[label] = source
        settled |= {int(ids[label])} - {-1}
    return frozenset(apart)


def _most_of(faces: Ids) -> int:
    """Return the id that more than half of some faces have, or -1."""
    counts = np.bincount(faces[faces >= 0], minlength=1)
    most = int(counts.argmax())
    return most if 2 * counts[most] > len(faces) else -1


def _remembered(known: Ids, now: Ids, before: Ids, alive: frozenset[int], here: frozenset[int]) -> Ids:
    """Return the id that each face had when that id ended in another, while it stays there and the id is not back."""
    is_taken = np.isin(known, list(alive - here)) & np.isin(now, list(alive & here))
    before = np.where(is_taken & (before < 0), known, before)
    is_over = (now >= 0) & (now != known) & ~is_taken
    return np.where(is_over | np.isin(before, list(here)), np.int32(-1), before)


def _changes(known: Ids, now: Ids, alive: frozenset[int], here: frozenset[int], next_id: int) -> tuple[Change, ...]:
    """Say what happened. known, now: [n], the ids that faces had and have. here: ids of now; from next_id on: new."""
    pairs = Counter(zip(known.tolist(), now.tolist(), strict=True))
    moved = {(old, new): count for (old, new), count in pairs.items() if old in alive and new >= 0 and old != new}
    had, has = Counter(known.tolist()), Counter(now.tolist())
    found: dict[tuple[Kind, int], set[int]] = {}

    def tell(kind: Kind, cluster: int, *others: int) -> None:
        found.setdefault((kind, cluster), set()).update(others)

    for one in sorted(alive - here):
        into = max((new for old, new in moved if old == one), key=lambda new: (moved[one, new], -new), default=-1)
        if into >= 0 and moved[one, into] >= pairs[one, -1]:
            tell("merged", into, one)
        else:
            tell("retired", one)
    for one in sorted(here - alive):
        source = next((old for old, new in moved if new == one and old in here and 2 * moved[old, one] > has[one]), -1)
        if one < next_id:
            tell("returned", one, *((source,) if source >= 0 else ()))
        elif source >= 0:
            tell("split", source, one)
        else:
            tell("born", one)
    told = {(one, other) for (_, one), others in found.items() for other in others}
    for old, new in sorted(moved):
        if not {(old, new), (new, old)} & told:
            tell("moved", new, old)
    return tuple(
        Change(kind, one, tuple(sorted(others)), had[one] if kind == "retired" else has[one])
        for (kind, one), others in found.items()
    )


def _firmness(one: int, firm: int | None, is_apart: bool, changes: tuple[Change, ...]) -> int:
    """Return how firm an id is now; firm: how firm it was, None if it was not there."""
    kinds = {change.kind for change in changes if change.cluster == one}
    if is_apart:
        return max(1, (FIRM if firm is None else firm) - 1)
    if "merged" in kinds or "returned" in kinds:
        return FIRM
    return 1 if firm is None else min(FIRM, firm + 1)


def assign(weights: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns of `weights` [R, C], min(R, C) of them, so that the sum is greatest.

    O(n^3), 1 ms for 30 ids. Source: Kuhn 1955, by shortest augmenting paths with potentials (Jonker, Volgenant 1987).
    Written out, since scipy, which has it, takes a second to import, and this runs in the live process.
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
