"""k-means: near scikit-learn's own result, the same bits each time, and never an empty cluster."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from psm_adapt.vocabulary import kmeans
from psm_adapt.vocabulary.kmeans import fit_centres, nearest, without_empty
from psm_stream.errors import AdaptationError


def blobs(rng: np.random.Generator, count: int = 600, places: int = 6) -> np.ndarray:
    where = 10 * rng.normal(size=(places, 5))
    return (where[rng.integers(0, places, count)] + rng.normal(size=(count, 5))).astype(np.float32)


def counts_of(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Count by a search through all differences."""
    apart = np.linalg.norm(points[:, None].astype(np.float64) - centres[None], axis=2)
    return np.bincount(apart.argmin(axis=1), minlength=len(centres))


def test_it_is_k_means(rng: np.random.Generator) -> None:
    points = blobs(rng)
    found = fit_centres(points, 6, seed=0)
    expected = KMeans(6, n_init=10, random_state=1).fit(points).cluster_centers_
    assert nearest(points, found)[1].mean() < 1.05 * nearest(points, expected)[1].mean()


def test_the_same_seed_gives_the_same_bits(rng: np.random.Generator) -> None:
    points = blobs(rng)
    np.testing.assert_array_equal(fit_centres(points, 20, seed=3), fit_centres(points, 20, seed=3))


def test_mini_batches_are_followed_by_steps_over_all_points(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = blobs(rng, 3000)
    whole = nearest(points, fit_centres(points, 30, seed=0))[1]
    monkeypatch.setattr(kmeans, "WHOLE_UP_TO", 0.0)
    found = fit_centres(points, 30, seed=0)
    np.testing.assert_array_equal(found, fit_centres(points, 30, seed=0))
    assert counts_of(points, found).min() > 0
    assert np.square(nearest(points, found)[1]).mean() < 1.2 * np.square(whole).mean()


@pytest.mark.parametrize("size", [1, 2, 37, 200])
def test_any_size_has_no_empty_cluster(size: int, rng: np.random.Generator) -> None:
    points = np.repeat(rng.normal(size=(200, 3)).astype(np.float32), rng.integers(1, 9, 200), axis=0)
    centres = fit_centres(points, size, seed=0)
    assert centres.shape == (size, 3)
    assert counts_of(points, centres).min() > 0


def test_an_empty_cluster_is_seeded_again_where_points_are_far_from_theirs(rng: np.random.Generator) -> None:
    """kmcuda gives NaN for an empty cluster: the published centres have such a row."""
    points = blobs(rng)
    centres = points[:5].copy()
    centres[1] = np.nan
    centres[3] = 1e6
    filled = without_empty(points, centres)
    assert np.isfinite(filled).all()
    assert counts_of(points, filled).min() > 0
    np.testing.assert_array_equal(filled[[0, 2, 4]], centres[[0, 2, 4]])  # the others stay where they are
    assert nearest(points, filled)[1].sum() < nearest(points, centres[[0, 2, 4]])[1].sum()


def test_centres_that_are_all_empty_or_all_alike_are_spread(rng: np.random.Generator) -> None:
    points = blobs(rng)
    for start in (np.nan, 1e9, 0.0):
        centres = without_empty(points, np.full((7, 5), start, np.float32))
        assert counts_of(points, centres).min() > 0


def test_where_none_is_empty_nothing_moves(rng: np.random.Generator) -> None:
    points = blobs(rng)
    centres = points[:3]
    assert without_empty(points, centres) is centres


def test_too_few_different_faces_say_what_size_would_do() -> None:
    points = np.tile(np.eye(3, dtype=np.float32), (5, 1))
    with pytest.raises(AdaptationError, match="give --size 3 or fewer"):
        fit_centres(points, 4, seed=0)
    with pytest.raises(AdaptationError, match="give --size 15 or fewer"):
        fit_centres(points, 16, seed=0)
    assert sorted(map(tuple, fit_centres(points, 3, seed=0))) == sorted(map(tuple, np.eye(3)))


def test_nearest_equals_a_slow_search_also_far_from_zero(rng: np.random.Generator) -> None:
    points, centres = (1000 + rng.normal(size=(n, 4)).astype(np.float32) for n in (300, 20))
    labels, distances = nearest(points, centres)
    apart = np.linalg.norm(points[:, None].astype(np.float64) - centres[None], axis=2)
    np.testing.assert_allclose(distances, apart[np.arange(300), labels], rtol=1e-9)
    np.testing.assert_allclose(distances, apart.min(axis=1), atol=0.02)
