"""Which frames train and which test: blocked in time, at random as published, by identity; and which labels count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from psm_stream.errors import AdaptationError

RAREST = 0.02


def counting(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which action units are positive in 2 to 98 % of the frames, both ends included. labels: [N, A]. Returns [A]."""
    if not len(labels):
        return np.zeros(labels.shape[1], np.bool_)
    share = labels.mean(axis=0)
    counts: NDArray[np.bool_] = (share >= RAREST) & (share <= 1 - RAREST)
    return counts


def time_blocks(
    t_s: NDArray[np.float64], blocks: int, seam_s: float
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Contiguous blocks of equal numbers of frames, each tested once.

    t_s: [N] s, increasing. Returns (training frames, test frames) of each block; training frames less than `seam_s`
    before the first or after the last test frame are left out, since they show what the test frames show.
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
