"""Principal components: fewer numbers per vector, so that fitting and assigning stay fast (Pearson 1901)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Projection = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def principal(vectors: NDArray[np.float64], dimensions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean [D] and the first components [dimensions, D] of vectors [n, D], each of length 1.

    dimensions 0, or D and more, keep everything: no components, [0, D], which leaves vectors as they are.
    """
    size = vectors.shape[1]
    mean = vectors.mean(axis=0)
    if not 0 < dimensions < size:
        return mean, np.empty((0, size))
    off = vectors - mean
    _, axes = np.linalg.eigh(off.T @ off)  # ascending
    return mean, np.ascontiguousarray(axes.T[::-1][:dimensions])


def projecting(mean: NDArray[np.float64], components: NDArray[np.float64]) -> Projection:
    """Return what takes one vector [D] to its point. One at a time, so that its bits do not depend on its company."""
    if not len(components):
        return lambda vector: vector.astype(np.float64)
    # not `@`: it wakes OpenBLAS's threads, which spin
    return lambda vector: np.einsum("kd,d->k", components, vector - mean)
