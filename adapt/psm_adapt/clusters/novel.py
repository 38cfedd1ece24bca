"""Novel clusters: those of one model that another model, on the same frames, has nothing like.

Source: Person-Specific Models, with what their released matrices show where the text says otherwise: the distance is L1
(the text says Euclidean), the noise of DBSCAN is compared like a cluster, and clusters without any action unit are left
out. What is not published is decided here: a flat profile, the same for all action units, correlates 1 with another
flat one and 0 with the rest; and where every pair is equally alike (a single pair, above all) nothing is novel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_adapt.clusters.sweep import Labels
from psm_stream.errors import AdaptationError

ALIKE = 0.8
"""A cluster is novel when its likeness to none of the other model's clusters exceeds this."""
_SAME = 1e-12
"""Differences below are rounding."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Profiles:
    """Clusters by what is seen in them. labels: [K] int64, ascending, -1 for noise. frequencies: [K, A] 0..1."""

    labels: Labels
    frequencies: Array


@dataclass(frozen=True, slots=True)
class Novelty:
    """Two models' clusters compared. likeness: [first's, second's] 0..1 over the person, NaN where all are alike."""

    first: Profiles
    second: Profiles
    likeness: Array
    novel_first: tuple[int, ...]
    """Labels of the first model's novel clusters."""
    novel_second: tuple[int, ...]
    """Labels of the second model's novel clusters."""


def profiles(labels: Labels, units: NDArray[np.bool_]) -> Profiles:
    """How often each action unit is on in each cluster, noise included; clusters in which none ever is are left out.

    labels: int64 [n], -1 for noise. units: bool [n, A]. Raises AdaptationError: not as many of the one as of the other.
    """
    if units.ndim != 2 or labels.shape != units.shape[:1]:
        raise AdaptationError(f"{len(labels)} clustered frames need action units [{len(labels)}, A], got {units.shape}")
    found, member = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(found), units.shape[1]))
    np.add.at(sums, member, units)
    frequencies = sums / np.bincount(member)[:, None]
    has_any = frequencies.any(axis=1)
    return Profiles(found[has_any], frequencies[has_any])


def likeness(first: Array, second: Array) -> Array:
    """How alike each two profiles are: Pearson's r minus the L1 distance, scaled to 0..1 over the whole matrix.

    first: [P, A], second: [G, A], 0..1. Returns [P, G]: 0 for the least alike of the pairs, 1 for the most alike, NaN
    everywhere when there is no difference between pairs.
    """
    plain = _pearson(first, second) - np.abs(first[:, None] - second[None]).sum(axis=2)
    if not plain.size or np.ptp(plain) < _SAME:
        return np.full(plain.shape, np.nan)
    scaled: Array = (plain - plain.min()) / np.ptp(plain)
    return scaled


def compare_profiles(first: Profiles, second: Profiles, alike: float = ALIKE) -> Novelty:
    """Find the clusters of each model that are like none of the other's. alike: 0..1."""
    matrix = likeness(first.frequencies, second.frequencies)
    is_told = not np.isnan(matrix).any()
    is_known = matrix > alike
    novel_first = first.labels[is_told & ~is_known.any(axis=1)]
    novel_second = second.labels[is_told & ~is_known.any(axis=0)]
    return Novelty(first, second, matrix, tuple(map(int, novel_first)), tuple(map(int, novel_second)))


def novelty(first: Labels, second: Labels, units: NDArray[np.bool_], alike: float = ALIKE) -> Novelty:
    """Compare two clusterings of the same frames of one person.

    first, second: int64 [n], -1 for noise. units: bool [n, A]. Raises AdaptationError: of different lengths.
    """
    return compare_profiles(profiles(first, units), profiles(second, units), alike)


def _pearson(first: Array, second: Array) -> Array:
    """Correlate each row of [P, A] with each row of [G, A]. Returns [P, G]."""
    (one, is_flat), (other, is_other_flat) = _centred(first), _centred(second)
    products: Array = one @ other.T + np.outer(is_flat, is_other_flat)
    return products


def _centred(rows: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Centre each row and give it the length 1; 0 where it is flat. Returns the rows [K, A] and which are flat [K]."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    is_flat = length[:, 0] < _SAME
    return np.where(is_flat[:, None], 0.0, centred / np.maximum(length, _SAME)), is_flat
