"""DBSCAN against a slow and obvious one, and what is assigned against its definition."""

import numpy as np
import pytest

from psm_stream.clusters.dbscan_method import DbscanMethod
from psm_stream.config import ClustersSettings

METHOD = DbscanMethod()


def slowly(points: np.ndarray, eps: float, samples: int) -> tuple[list[set[int]], np.ndarray]:
    """Return the clusters' core points, and which points are core, from the definition."""
    distances = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=2)
    is_core = (distances <= eps).sum(axis=1) >= samples  # a point counts itself
    left, clusters = set(np.flatnonzero(is_core).tolist()), []
    while left:
        reached, edge = set(), {min(left)}
        while edge:
            reached |= edge
            edge = {j for i in edge for j in np.flatnonzero((distances[i] <= eps) & is_core).tolist()} - reached
        clusters.append(reached)
        left -= reached
    return clusters, is_core


@pytest.mark.parametrize(("eps", "samples"), [(0.3, 1), (0.3, 4), (0.35, 8), (5.0, 4)])
def test_clusters_are_those_of_the_definition(rng: np.random.Generator, eps: float, samples: int) -> None:
    points = np.concatenate([0.2 * rng.normal(size=(60, 3)) + i for i in range(3)] + [2 * rng.normal(size=(40, 3))])
    points = points.astype(np.float32)
    made = METHOD.fit(points, ClustersSettings(eps=eps, min_samples=samples))
    clusters, is_core = slowly(points, eps, samples)
    found = [set(np.flatnonzero(is_core & (made.labels == label)).tolist()) for label in range(made.labels.max() + 1)]
    assert found == clusters
    distances = np.linalg.norm(points[:, None].astype(np.float64) - points[is_core][None], axis=2)
    np.testing.assert_array_equal(made.labels == -1, (distances > eps).all(axis=1))
    np.testing.assert_allclose(made.strengths, np.maximum(0, 1 - distances.min(axis=1) / eps), atol=1e-2)


def test_a_vector_belongs_to_its_nearest_core_point(rng: np.random.Generator) -> None:
    points = np.concatenate([0.2 * rng.normal(size=(80, 4)) + i for i in range(3)]).astype(np.float32)
    made = METHOD.fit(points, ClustersSettings(eps=0.4, min_samples=5))
    _, is_core = slowly(points, 0.4, 5)
    core, labels = points[is_core].astype(np.float64), made.labels[is_core]
    assign = METHOD.assigner(made.fitted)
    for vector in (rng.uniform(-1, 3, size=(1000, 4))).astype(np.float32):
        distances = np.linalg.norm(core - vector, axis=1)
        nearest = distances.min()
        expected = (labels[distances.argmin()], 1 - nearest / 0.4, nearest / 0.4) if nearest <= 0.4 else (-1, 0, 1)
        assert assign(vector) == pytest.approx(expected, abs=1e-5)


def test_eps_itself_is_within() -> None:
    made = METHOD.fit(np.zeros((5, 2), np.float32), ClustersSettings(eps=0.5, min_samples=5))
    assign = METHOD.assigner(made.fitted)
    assert assign(np.array([0.5, 0], np.float32)) == (0, 0.0, 1.0)
    assert assign(np.array([0.5000001, 0], np.float32)) == (-1, 0.0, 1.0)


def test_the_embedding_itself_counts_not_its_components(rng: np.random.Generator) -> None:
    points = rng.normal(size=(50, 32)).astype(np.float32)
    few, all_of_them = (METHOD.fit(points, ClustersSettings(eps=6.0, min_samples=4, dimensions=d)) for d in (2, 0))
    np.testing.assert_array_equal(few.labels, all_of_them.labels)
