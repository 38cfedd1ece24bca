"""Vocabulary: the clusters are the centres of a file, the same in every session, and their ids are its row numbers.

A face is in the cluster of its nearest centre, unless that is farther than the file's limit, has too few faces of its
own, or units were measured from another source than the file's. strength is 1 - d1/d2, of the distances to the nearest
centre and the second: 1 on a centre, 0 where two are equally near. outlier is d1/limit, 1 at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.clustering import Clustering
from psm_stream.clusters.fit import NOISE, NOWHERE, Assigner, Fit, Fitted
from psm_stream.clusters.units import UNIT_NAMES
from psm_stream.clusters.vocabulary import UNKNOWN, Vocabulary, read_vocabulary
from psm_stream.config import ClustersSettings
from psm_stream.errors import ConfigError


class VocabularyMethod:
    """Assigns by a file that psm-adapt vocabulary fit wrote."""

    name = "vocabulary"

    def takes(self, fitted: Fitted) -> Literal["vector", "units"]:
        """Say what is assigned."""
        return "units" if fitted["is_used"].size else "vector"

    def fit(self, vectors: NDArray[np.float32], settings: ClustersSettings) -> Fit:
        """Read the file; nothing is learned of the vectors [n, D] (units [n, U]), which are only sorted into it.

        Raises ConfigError: no file is set. Raises ClusteringError: it cannot be read.
        """
        if settings.vocabulary is None:
            raise ConfigError("clusters.method is vocabulary, but clusters.vocabulary names no file")
        fitted = arrays_of(read_vocabulary(settings.vocabulary))
        assign = self.assigner(fitted)
        falls = [assign(vector) for vector in vectors]
        labels = np.array([label for label, _, _ in falls], np.int32)
        return Fit(labels, np.array([strength for _, strength, _ in falls], np.float32), fitted)

    def assigner(self, fitted: Fitted) -> Assigner:
        """Make ready to assign."""
        centres, is_word, limit = fitted["centres"], fitted["is_word"].tolist(), float(fitted["limit"])
        half_squares = np.einsum("kd,kd->k", centres, centres) / 2
        prepared = _preparing(fitted["is_used"], fitted["scale"])

        def assign(vector: NDArray[np.float32]) -> tuple[int, float, float]:
            point = prepared(vector)
            if point is None:
                return NOWHERE
            # nearest in |c|^2 / 2 - c.x, which spares the difference for each centre; einsum wakes no threads
            far = half_squares - np.einsum("kd,d->k", centres, point)
            label = int(far.argmin())
            nearest = _distance(centres[label], point)
            outlier = min(1.0, nearest / limit)
            if not nearest <= limit or not is_word[label]:  # nor where it is NaN
                return NOISE, 0.0, outlier
            far[label] = np.inf
            second = _distance(centres[int(far.argmin())], point) if len(far) > 1 else np.inf
            return label, 1.0 - nearest / second if second > nearest else 0.0, outlier

        return assign

    def tokens(self, fitted: Fitted) -> Callable[[int], str]:
        """Return what says the token of a label."""
        del fitted
        return token_of


def token_of(label: int) -> str:
    """Return the token of a label that `assign` gave."""
    return UNKNOWN if label == NOISE else f"c{label}"


def arrays_of(vocabulary: Vocabulary) -> Fitted:
    """Return what assigning needs of a vocabulary, as it is recorded with a session.

    centres: float32 [K, D]. scale: float32 [D]. limit: float64. is_word: bool [K].
    is_used: bool [U] in the order of UNITS, which units count; [0] for embeddings.
    """
    names = UNIT_NAMES if vocabulary.feature == "units" else ()
    return {
        "centres": vocabulary.centres,
        "scale": vocabulary.scale,
        "limit": np.array(vocabulary.limit, np.float64),
        "is_word": vocabulary.is_word,
        "is_used": np.array([name in vocabulary.features for name in names], np.bool_),
    }


def _preparing(
    is_used: NDArray[np.bool_], scale: NDArray[np.float32]
) -> Callable[[NDArray[np.float32]], NDArray[np.float32] | None]:
    """Return what makes a point [D] of a vector or of units; None: of units that are measured from another source.

    Those from landmarks lack some that blendshapes tell, so that what can be told says which source it was.
    """
    if not is_used.size:
        return lambda vector: vector / scale
    columns = np.flatnonzero(is_used)

    def prepared(units: NDArray[np.float32]) -> NDArray[np.float32] | None:
        return units[columns] / scale if np.array_equal(np.isfinite(units), is_used) else None

    return prepared


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(one.astype(np.float64) - other).sum()))


def as_clustering(vocabulary: Vocabulary) -> Clustering:
    """Return a vocabulary as clusters: the ids are the numbers of its centres."""
    fitted = arrays_of(vocabulary)
    ids = np.arange(len(vocabulary), dtype=np.int32)
    return Clustering(
        method=VocabularyMethod.name,
        model_id=vocabulary.model_id,
        version=1,
        ids=ids,
        changes=(),
        fitted=fitted,
        points=int(vocabulary.counts.sum()),
    )
