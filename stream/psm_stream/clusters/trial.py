"""Trying a clustering that comes from a file before anything relies on it."""

from __future__ import annotations

import numpy as np

from psm_stream.clusters.clustering import ANY_MODEL, Clustering
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.units import UNITS
from psm_stream.errors import ClusteringError


def check_assigns(clustering: Clustering, dimension: int) -> None:
    """Let a clustering assign a vector [dimension] (units, where it is of those).

    Raises ClusteringError: it cannot, or it is by a method that is not known here.
    """
    method = METHODS.get(clustering.method)
    if method is None:
        raise ClusteringError(f"clustering by {clustering.method!r}; this version knows {', '.join(METHODS)}")
    length = len(UNITS) if clustering.model_id == ANY_MODEL else dimension
    try:
        label, _, _ = method.assigner(clustering.fitted)(np.zeros(length, np.float32))
        if label >= 0:
            clustering.ids[label]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ClusteringError(f"clustering that is damaged: {error!r}") from None
