"""DBSCAN (Ester, Kriegel, Sander, Xu 1996) as the paper has it: of the embedding itself, eps and min_samples as set.

A new vector belongs to the cluster of its nearest core point (to float32's precision), if that is within eps; else it
is noise. That is DBSCAN's rule for border points, but that it leaves open which of several clusters has them.
strength is 1 - distance / eps, so that a core point has 1; outlier is distance / eps, 1 at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.fit import NOISE, NOWHERE, Assigner, Fit, Fitted, checked
from psm_stream.config import ClustersSettings


class DbscanMethod:
    """Clusters are places with at least min_samples points within eps, and whatever hangs together with them."""

    name = "dbscan"

    def takes(self, fitted: Fitted) -> Literal["vector", "units"]:
        """Say what is assigned."""
        del fitted
        return "vector"

    def fit(self, vectors: NDArray[np.float32], settings: ClustersSettings) -> Fit:
        """Fit vectors [n, D] with clusters.eps and clusters.min_samples.

        Memory grows with the pairs within eps: 10,000 vectors that are all so near to each other take 3 GB.
        """
        from sklearn.cluster import DBSCAN

        clusterer = DBSCAN(eps=settings.eps, min_samples=settings.min_samples).fit(checked(vectors))
        labels = clusterer.labels_.astype(np.int32)
        core = clusterer.core_sample_indices_
        fitted = {"core": vectors[core], "label": labels[core], "eps": np.array(settings.eps, np.float64)}
        strengths = (labels != NOISE).astype(np.float32)  # of core points
        assign = self.assigner(fitted)
        for border in np.setdiff1d(np.flatnonzero(strengths), core):
            strengths[border] = assign(vectors[border])[1]
        return Fit(labels, strengths, fitted)

    def assigner(self, fitted: Fitted) -> Assigner:
        """Make ready to assign."""
        core, labels, eps = fitted["core"], fitted["label"].tolist(), float(fitted["eps"])
        if not labels:
            return lambda _: NOWHERE
        half_squares = np.einsum("nd,nd->n", core, core) / 2

        def assign(vector: NDArray[np.float32]) -> tuple[int, float, float]:
            # nearest in |c|^2 / 2 - c.x, which spares the difference for each; einsum, unlike `@`, wakes no threads
            place = int((half_squares - np.einsum("nd,d->n", core, vector)).argmin())
            off = core[place].astype(np.float64) - vector
            distance = float(np.sqrt(np.square(off).sum()))
            if not distance <= eps:  # nor where it is NaN
                return NOWHERE
            return labels[place], 1.0 - distance / eps, distance / eps

        return assign

    def tokens(self, fitted: Fitted) -> Callable[[int], str] | None:
        """Labels have no tokens."""
        del fitted
        return None
