"""The published sweep: DBSCAN at each of forty settings, on what a model says of one person's frames.

Source: Person-Specific Models, which clusters each person's embedding at eps 3 to 10 and min_samples 4 to 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN
from sklearn.metrics import pairwise_distances

from psm_stream.errors import AdaptationError

EPS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
MIN_SAMPLES = (4, 5, 6, 7, 8)
NOISE = -1
_LEAST_DEVIATION = 1e-6
"""Dimensions that scatter less (in standardising) hold nothing but rounding."""

Labels: TypeAlias = NDArray[np.int64]
Vectors: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of DBSCAN. eps: in units of the scaled vectors. min_samples: neighbours, and the point itself."""

    eps: float
    min_samples: int


def standard(vectors: Vectors) -> NDArray[np.float64]:
    """Give every dimension a mean of 0 and a deviation of 1, over these vectors. [n, D] to [n, D].

    A dimension that does not vary stays at 0.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    scaled: NDArray[np.float64] = centred / np.where(deviation > _LEAST_DEVIATION, deviation, np.inf)
    return scaled


def raw(vectors: Vectors) -> NDArray[np.float64]:
    """Leave the vectors as they are, in double precision."""
    return np.asarray(vectors, np.float64)


SCALINGS: Mapping[str, Callable[[Vectors], NDArray[np.float64]]] = MappingProxyType({"standard": standard, "raw": raw})
"""What is done to vectors before they are clustered. Which of them was published is not known."""


def settings_of(eps: Sequence[float] = EPS, min_samples: Sequence[int] = MIN_SAMPLES) -> tuple[Setting, ...]:
    """Every pair, eps outside, min_samples inside, as published."""
    return tuple(Setting(one, samples) for one in eps for samples in min_samples)


def sweep(vectors: NDArray[np.float64], settings: Sequence[Setting]) -> dict[Setting, Labels]:
    """Cluster the same vectors at every setting, with DBSCAN and Euclidean distance.

    vectors: [n, D], scaled. Returns for each setting int64 [n], -1 for noise, else 0, 1, ... in the order in which
    clusters begin. The distances are computed once; they take 8 n^2 bytes.
    Raises AdaptationError: no vectors, or some that are not finite.
    """
    if not len(vectors) or not np.isfinite(vectors).all():
        raise AdaptationError(f"cannot cluster {len(vectors)} vectors; give at least one, and only finite ones")
    distances = pairwise_distances(vectors)
    return {
        setting: DBSCAN(eps=setting.eps, min_samples=setting.min_samples, metric="precomputed").fit_predict(distances)
        for setting in settings
    }


def cluster_count(labels: Labels) -> int:
    """How many clusters there are; noise is none."""
    return int(np.count_nonzero(np.unique(labels) != NOISE))


def noise_share(labels: Labels) -> float:
    """Which share of the frames is in no cluster, 0..1."""
    return float(np.mean(labels == NOISE))
