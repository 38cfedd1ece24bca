"""k-means with no empty cluster, of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_stream.errors import AdaptationError

WHOLE_UP_TO = 4e10
"""Up to so many points x centres x dimensions each step looks at all points; beyond, mini-batches come first."""
STEPS = 300
STEPS_AFTER = 10
"""Steps over all points after mini-batches, and after empty clusters were seeded again."""
_ROUNDS = 5


def fit_centres(points: NDArray[np.float32], size: int, seed: int) -> NDArray[np.float32]:
    """Find centres, each the nearest one of at least one point.

    k-means++ and Lloyd's steps by scikit-learn, in one thread, so that the same points give the same bits. A cluster
    that is left empty is seeded again; the published ones were made by kmcuda, which gives NaN there.

    Args:
        points: [n, D], finite.
        size: How many centres.
        seed: Of the random start.

    Returns [size, D]. Raises AdaptationError: there are fewer different points than centres.
    """
    if len(points) < size:
        raise AdaptationError(f"{len(points)} faces cannot have {size} centres; give --size {len(points)} or fewer")
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        centres = _started(points, size, seed)
        for _ in range(_ROUNDS):
            filled = without_empty(points, centres)
            if filled is centres:
                return centres
            centres = _stepped(points, filled, STEPS_AFTER)
        return without_empty(points, centres)


def without_empty(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move each centre that no point is nearest to, also one that is not finite, onto a point far from its own.

    Each move takes that point's distance away and adds none, so that this ends. Returns `centres` itself where none is
    empty. Raises AdaptationError: there are fewer different points than centres.
    """
    while True:
        labels, distances = nearest(points, centres)
        empty = np.flatnonzero(np.bincount(labels, minlength=len(centres)) == 0)
        if not len(empty):
            return centres
        farthest = _different(points, np.argsort(-distances, kind="stable"), distances, len(empty))
        if not len(farthest):
            different = len(np.unique(points, axis=0))
            raise AdaptationError(
                f"there are {different} different faces among {len(points)}; give --size {different} or fewer"
            )
        centres = centres.copy()
        centres[empty[: len(farthest)]] = points[farthest]


def nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest centre of each point, [n], and how far it is, [n]. One that is not finite is nobody's."""
    from sklearn.metrics import pairwise_distances_argmin

    there = np.flatnonzero(np.isfinite(centres).all(axis=1))
    if not len(there):
        return np.zeros(len(points), np.int64), np.full(len(points), np.inf)
    found: NDArray[np.intp] = there[pairwise_distances_argmin(points, centres[there])]
    # of the difference: the square's formula loses what a face has in common with its centre
    apart = np.concatenate(
        [
            np.sqrt(np.square(points[rows].astype(np.float64) - centres[found[rows]]).sum(axis=1))
            for rows in _in_pieces(len(points))
        ]
    )
    return found.astype(np.int64), apart


def _started(points: NDArray[np.float32], size: int, seed: int) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if float(len(points)) * size * points.shape[1] <= WHOLE_UP_TO:
        return _centres(KMeans(size, n_init=1, max_iter=STEPS, random_state=seed), points)
    batches = MiniBatchKMeans(size, n_init=1, batch_size=max(1024, 4 * size), random_state=seed)
    return _stepped(points, _centres(batches, points), STEPS_AFTER)


def _stepped(points: NDArray[np.float32], centres: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans

    return _centres(KMeans(len(centres), init=centres, n_init=1, max_iter=steps), points)


def _centres(model: Any, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fit. That it found fewer clusters, or has not come to its end, is no news here: what is empty is seeded again."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(model.fit(points).cluster_centers_, np.float32)


def _different(
    points: NDArray[np.float32], order: NDArray[np.intp], distances: NDArray[np.float64], most: int
) -> list[int]:
    """Choose points in the order given, none twice in the same place and none that lies on its centre."""
    chosen: dict[bytes, int] = {}
    for row in order:
        if distances[row] <= 0 or len(chosen) == most:
            break
        chosen.setdefault(points[row].tobytes(), int(row))
    return list(chosen.values())


def _in_pieces(count: int, rows: int = 65536) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, count, rows)]
