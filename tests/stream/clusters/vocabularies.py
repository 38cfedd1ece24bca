"""Small vocabularies for tests."""

import numpy as np

from psm_stream.clusters.units import UNIT_NAMES
from psm_stream.clusters.vocabulary import Vocabulary, measuring_of

FROM_LANDMARKS = tuple(name for name in UNIT_NAMES if name != "AU14")


def of_embeddings(size: int = 20, dimension: int = 8, limit: float = 2.0, min_count: int = 3) -> Vocabulary:
    rng = np.random.default_rng(size)
    return Vocabulary(
        feature="embedding",
        model_id="0123456789ab",
        source="",
        features=(),
        scale=np.ones(dimension, np.float32),
        centres=rng.normal(size=(size, dimension)).astype(np.float32),
        counts=np.arange(size, dtype=np.int64)[::-1],
        limit=limit,
        min_count=min_count,
        units=UNIT_NAMES,
        profiles=np.zeros((size, len(UNIT_NAMES)), np.float32),
        about='{"faces": 190}',
    )


def of_units(names: tuple[str, ...] = FROM_LANDMARKS, size: int = 6) -> Vocabulary:
    rng = np.random.default_rng(1)
    return Vocabulary(
        feature="units",
        model_id="",
        source="landmarks",
        measuring=measuring_of("landmarks"),
        features=names,
        scale=rng.uniform(0.1, 2.0, len(names)).astype(np.float32),
        centres=rng.normal(size=(size, len(names))).astype(np.float32),
        counts=np.full(size, 10, np.int64),
        limit=3.0,
        min_count=1,
        units=UNIT_NAMES,
        profiles=np.zeros((size, len(UNIT_NAMES)), np.float32),
    )
