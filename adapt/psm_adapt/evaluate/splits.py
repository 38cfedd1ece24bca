"""Which frames train and which test: blocked in time, at random as published, by identity; and which labels count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from psm_stream.errors import AdaptationError

RAREST = 0.02

Frames: TypeAlias = NDArray[np.intp]
Fold: TypeAlias = tuple[Frames, Frames]
"""Training frames and test frames, in order."""


def counting(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which action units are positive in 2 to 98 % of the frames, both ends included. labels: [N, A]. Returns [A]."""
    if not len(labels):
        return np.zeros(labels.shape[1], np.bool_)
    share = labels.mean(axis=0)
    counts: NDArray[np.bool_] = (share >= RAREST) & (share <= 1 - RAREST)
    return counts


def frequent(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The published 2 % rule: which action units are positive in at least 2 % of the frames, and not in all.

    labels: [N, A] of the full recording, not of the frames that are probed. Returns [A]. Source: PSM.
    """
    if not len(labels):
        return np.zeros(labels.shape[1], np.bool_)
    counts: NDArray[np.bool_] = (labels.mean(axis=0) >= RAREST) & ~labels.all(axis=0)
    return counts


def time_blocks(t_s: NDArray[np.float64], blocks: int, seam_s: float) -> list[Fold]:
    """Contiguous blocks of equal numbers of frames, each tested once.

    t_s: [N] s, increasing. Training frames less than `seam_s` before the first or after the last test frame are left
    out, since they show what the test frames show.
    Raises AdaptationError: fewer frames than blocks, or time goes backwards.
    """
    if len(t_s) < blocks:
        raise AdaptationError(f"a recording of {len(t_s)} frames cannot be cut into {blocks} blocks; use a longer one")
    if np.any(np.diff(t_s) < 0):
        raise AdaptationError("the frames of a recording must be in order of time; this one goes backwards")
    folds = []
    for test in np.array_split(np.arange(len(t_s)), blocks):
        near = (t_s > t_s[test[0]] - seam_s) & (t_s < t_s[test[-1]] + seam_s)
        folds.append((np.flatnonzero(~near), test))
    return folds


def random_fifth(labels: NDArray[np.bool_], generator: np.random.Generator) -> Fold:
    """One random 80/20 split that keeps the share of each action unit, as published for a single person.

    Frames are shuffled, those with the same combination of action units put together, and every fifth tests. Whether
    the authors made one split or one for each action unit is not published.
    Neighbours in time land on both sides, which flatters everything: see `time_blocks`.
    labels: bool [N, A].
    """
    shuffled = generator.permutation(len(labels))
    alike = np.lexsort(labels[shuffled].T) if labels.shape[1] else np.arange(len(labels))
    is_test = np.zeros(len(labels), np.bool_)
    is_test[shuffled[alike][int(generator.integers(5)) :: 5]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def identity_folds(people: Sequence[str], folds: int) -> list[tuple[str, ...]]:
    """Who is tested in which fold: names in alphabetical order are dealt out in turn.

    The published folds are not known. Raises AdaptationError: fewer people than folds.
    """
    names = sorted(set(people))
    if len(names) < folds:
        raise AdaptationError(f"{folds} folds by identity need {folds} people or more, there are {len(names)}")
    return [tuple(names[fold::folds]) for fold in range(folds)]
