"""The sweep: DBSCAN equal to a slow obvious one, the published grid, and scalings."""

import numpy as np
import pytest

from psm_adapt.clusters.sweep import (
    Setting,
    cluster_count,
    noise_share,
    raw,
    settings_of,
    standard,
    sweep,
)
from psm_stream.errors import AdaptationError


def blobs(seed: int = 0) -> np.ndarray:
    """Three groups of 20, 15 and 6 points some way apart in 5 dimensions, and 10 points far from everything."""
    draw = np.random.default_rng(seed)
    groups = [draw.normal(centre, 0.3, (count, 5)) for centre, count in ((0, 20), (3, 15), (-3, 6))]
    return np.concatenate([*groups, draw.uniform(-40, 40, (10, 5))])


def slow_dbscan(vectors: np.ndarray, setting: Setting) -> np.ndarray:
    """Ester et al. 1996, from the definition: grow each cluster from its first core point, in order."""
    near = [
        [other for other in range(len(vectors)) if np.sqrt(((vectors[one] - vectors[other]) ** 2).sum()) <= setting.eps]
        for one in range(len(vectors))
    ]
    labels, count = np.full(len(vectors), -1), 0
    for start in range(len(vectors)):
        if labels[start] != -1 or len(near[start]) < setting.min_samples:
            continue
        waiting = [start]
        while waiting:
            point = waiting.pop()
            if labels[point] == -1:
                labels[point] = count
                waiting += near[point] if len(near[point]) >= setting.min_samples else []
        count += 1
    return labels


def test_the_published_grid():
    settings = settings_of()
    assert len(settings) == 40
    assert settings[0] == Setting(3.0, 4)
    assert settings[5] == Setting(4.0, 4)  # eps is the outer loop
    assert settings[-1] == Setting(10.0, 8)


def test_equal_to_the_definition():
    settings = settings_of((0.5, 0.8, 1.2, 4.0), (4, 6, 8))
    vectors = blobs()
    found = sweep(vectors, settings)
    assert list(found) == list(settings)
    for setting, labels in found.items():
        np.testing.assert_array_equal(labels, slow_dbscan(vectors, setting))
    assert len({tuple(labels) for labels in found.values()}) > 3


def test_what_is_counted():
    (labels,) = sweep(blobs(), [Setting(1.2, 4)]).values()
    assert cluster_count(labels) == 3
    assert noise_share(labels) == pytest.approx(10 / 51)
    assert cluster_count(np.full(4, -1)) == 0


def test_a_larger_eps_never_leaves_more_noise():
    shares = [noise_share(labels) for labels in sweep(blobs(), settings_of((0.2, 0.6, 1.2, 9.0, 99.0), (5,))).values()]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (1.0, 0.0)


def test_standard_vectors():
    vectors = (blobs() * [1, 100, 0.01, 1, 0] + 7).astype(np.float32)
    scaled = standard(vectors)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(standard(vectors * 3 - 1), scaled, atol=1e-4)


def test_raw_vectors():
    vectors = blobs().astype(np.float32)
    assert raw(vectors).dtype == np.float64
    np.testing.assert_array_equal(raw(vectors), vectors)


@pytest.mark.parametrize("vectors", [np.empty((0, 3)), np.array([[0.0, np.nan]])])
def test_what_cannot_be_clustered(vectors):
    with pytest.raises(AdaptationError, match="give at least one, and only finite ones"):
        sweep(vectors, [Setting(1, 1)])
