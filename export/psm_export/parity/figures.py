"""How far embeddings are from those of the float32 reference: the figures that the gate judges and a manifest keeps.

All are computed from two arrays alone, the reference's [N, D] and the given ones [N, D], of the same crops.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from psm_stream.bundle import Parity

NEIGHBOURS = 5
FEWEST = 20
"""Crops under which neighbours say nothing."""
FEWEST_FOR_CLUSTERS = 100
"""A cluster has 20 faces at least."""
_AS_NEAR = 1.1
"""A neighbour is kept when it lies, by the reference, no farther than this times the last of the nearest: frames of a
film are near copies, and which of two copies is nearer means nothing."""
_FLOAT_TOLERANCE = 1e-4
_LEAST_SPREAD = 1e-3

Vectors = NDArray[np.float32] | NDArray[np.float64]


def measure_parity(reference: Vectors, given: Vectors, against: str, of: str = "") -> Parity:
    """Compare embeddings [N, D] with the reference's [N, D]. against: the reference in words. of: the crops in words.

    The tolerance is twice the largest difference: two machines that are each so far from the reference may be that far
    from each other; never under 1e-4, what float32 kernels differ by.
    """
    difference = np.abs(reference - given)
    cosine = cosines(reference, given)
    largest = _digits(difference.max())
    return Parity(
        reference=against,
        of=of,
        crops=len(reference),
        max_abs=largest,
        mean_abs=_digits(difference.mean()),
        cosine=round(float(cosine.min()), 6),
        cosine_mean=round(float(cosine.mean()), 6),
        neighbours_kept=neighbours_kept(reference, given),
        tolerance=max(_FLOAT_TOLERANCE, _digits(2 * largest)),
    )


def cosines(reference: Vectors, given: Vectors) -> NDArray[np.float64]:
    """Cosine similarity of each given vector to the reference's, [N]; of two zero vectors 1, of one 0."""
    one, other = reference.astype(np.float64), given.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    both_zero = (one == other).all(axis=1) & (lengths == 0)
    cosine: NDArray[np.float64] = np.where(both_zero, 1.0, (one * other).sum(axis=1) / np.where(lengths, lengths, 1.0))
    return cosine


def spread(reference: Vectors) -> float:
    """How much embeddings differ from face to face: root mean square of a value's distance to its mean, over crops.

    At least a thousandth of the values' own root mean square: an encoder that gives all faces nearly the same (one with
    weights as they were drawn) is held to what float32 can tell apart.
    """
    values = reference.astype(np.float64)
    centred = values - values.mean(axis=0)
    return float(max(np.sqrt((centred**2).mean()), _LEAST_SPREAD * np.sqrt((values**2).mean())))


def neighbours_kept(reference: Vectors, given: Vectors) -> float | None:
    """Of the nearest neighbours that the given vectors find, the share that are such by the reference, too.

    Five of each crop, by Euclidean distance. None where there are too few crops to tell near from far. Source: recall
    by distance with a margin, as in ANN-Benchmarks (Aumueller, Bernhardsson, Faithfull 2020, section 2.1).
    """
    count = len(reference)
    if count < FEWEST:
        return None
    wanted, found = _distances(reference), _distances(given)
    limit = np.sort(wanted, axis=1)[:, NEIGHBOURS - 1 : NEIGHBOURS] * _AS_NEAR
    nearest = np.argsort(found, axis=1, kind="stable")[:, :NEIGHBOURS]
    kept = np.take_along_axis(wanted, nearest, axis=1) <= limit
    return round(float(kept.mean()), 4)


def clusters_kept(reference: Vectors, given: Vectors) -> float | None:
    """Share of the crops whose given vector falls into the cluster that the reference's falls into.

    Clusters are fitted to the reference's vectors by the live path's own method and defaults; where that finds fewer
    than two among these crops, by k-means with 8 centres. None: too few crops for either.
    """
    from psm_stream.clusters.methods import METHODS
    from psm_stream.config import ClustersSettings

    if len(reference) < FEWEST_FOR_CLUSTERS:
        return None
    method = METHODS["hdbscan"]
    fit = method.fit(reference.astype(np.float32), ClustersSettings())
    if fit.labels.max() < 1:
        return _centres_kept(reference, given)
    assign = method.assigner(fit.fitted)
    wanted = np.array([assign(vector)[0] for vector in reference.astype(np.float32)])
    found = np.array([assign(vector)[0] for vector in given.astype(np.float32)])
    inside = wanted >= 0
    return round(float((wanted == found)[inside].mean()), 4)


def _centres_kept(reference: Vectors, given: Vectors) -> float:
    from sklearn.cluster import KMeans

    count = min(8, len(np.unique(reference, axis=0)))
    fitted = KMeans(n_clusters=count, n_init=4, random_state=0).fit(reference.astype(np.float64))
    return round(
        float((fitted.predict(reference.astype(np.float64)) == fitted.predict(given.astype(np.float64))).mean()), 4
    )


def _distances(vectors: Vectors) -> NDArray[np.float64]:
    """Euclidean distance of each vector to each other, [N, N]; infinite to itself."""
    points = vectors.astype(np.float64)
    points = points - points.mean(axis=0)
    squares = (points**2).sum(axis=1)
    apart: NDArray[np.float64] = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * points @ points.T, 0))
    np.fill_diagonal(apart, np.inf)
    return apart


def _digits(value: float) -> float:
    """Two significant digits, which is more than such a figure means."""
    return float(f"{value:.1e}")
