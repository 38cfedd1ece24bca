"""Principal components."""

import numpy as np
import pytest

from psm_stream.clusters.reduce import principal, projecting


def test_components_are_orthonormal_and_hold_what_the_singular_values_say(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(200, 12)) * np.linspace(3, 0.1, 12) + 5
    mean, components = principal(vectors, 5)
    np.testing.assert_allclose(components @ components.T, np.eye(5), atol=1e-12)
    project = projecting(mean, components)
    points = np.array([project(vector) for vector in vectors])
    singular = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(np.sqrt((points**2).sum(axis=0)), singular[:5])


@pytest.mark.parametrize("dimensions", [0, 12, 13])
def test_everything_is_kept_as_it_is(rng: np.random.Generator, dimensions: int) -> None:
    vectors = rng.normal(size=(20, 12)).astype(np.float32)
    project = projecting(*principal(vectors.astype(np.float64), dimensions))
    np.testing.assert_array_equal(project(vectors[3]), vectors[3])


def test_fewer_vectors_than_dimensions() -> None:
    vectors = np.eye(3, 8)
    mean, components = principal(vectors, 6)
    project = projecting(mean, components)
    points = np.array([project(vector.astype(np.float32)) for vector in vectors])
    np.testing.assert_allclose(np.linalg.norm(points[0] - points[1]), np.sqrt(2))
