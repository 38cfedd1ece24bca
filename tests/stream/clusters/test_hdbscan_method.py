"""HDBSCAN: fits are the package's, and so is what is assigned, point for point."""

import hdbscan
import numpy as np
import pytest

from psm_stream.clusters.fit import Fit
from psm_stream.clusters.hdbscan_method import HdbscanMethod
from psm_stream.clusters.reduce import projecting
from psm_stream.config import ClustersSettings

METHOD = HdbscanMethod()


def settings(samples: int = 5, size: int = 10, dimensions: int = 0) -> ClustersSettings:
    return ClustersSettings(dimensions=dimensions, min_cluster_size=size, min_samples=samples)


def by_package(points: np.ndarray, chosen: ClustersSettings) -> hdbscan.HDBSCAN:
    return hdbscan.HDBSCAN(
        min_cluster_size=chosen.min_cluster_size,
        min_samples=chosen.min_samples,
        approx_min_span_tree=False,
        prediction_data=True,
    ).fit(points.astype(np.float64))


def assigned(made: Fit, vectors: np.ndarray) -> np.ndarray:
    assign = METHOD.assigner(made.fitted)
    return np.array([assign(vector) for vector in vectors])


def blobs(rng: np.random.Generator, count: int, dimensions: int) -> np.ndarray:
    """Clusters of several densities, one within another, and noise."""
    centres = 2 * rng.normal(size=(6, dimensions))
    centres[5] = centres[4]
    spreads = np.array([0.1, 0.2, 0.3, 0.5, 0.1, 0.6])
    which = rng.integers(7, size=count)
    points = np.where(which[:, None] == 6, 3 * rng.normal(size=(count, dimensions)), 0)
    is_in = which < 6
    points[is_in] = centres[which[is_in]] + spreads[which[is_in], None] * rng.normal(size=(is_in.sum(), dimensions))
    return points.astype(np.float32)


@pytest.mark.parametrize(("samples", "size"), [(1, 5), (2, 40), (5, 10), (10, 20), (30, 8)])
@pytest.mark.parametrize("dimensions", [2, 16])
def test_it_equals_the_package(rng: np.random.Generator, samples: int, size: int, dimensions: int) -> None:
    points, chosen = blobs(rng, 600, dimensions), settings(samples, size)
    made, theirs = METHOD.fit(points, chosen), by_package(points, chosen)
    np.testing.assert_array_equal(made.labels, theirs.labels_)
    np.testing.assert_allclose(made.strengths, theirs.probabilities_, atol=1e-6)
    near = points[rng.integers(len(points), size=800)] + 0.1 * rng.normal(size=(800, dimensions))
    new = np.concatenate([near, blobs(rng, 600, dimensions), points[:100]]).astype(np.float32)
    labels, strengths = hdbscan.approximate_predict(theirs, new.astype(np.float64))
    outliers = hdbscan.approximate_predict_scores(theirs, new.astype(np.float64))
    found = assigned(made, new)
    assert len(set(labels.tolist())) > 2
    np.testing.assert_array_equal(found[:, 0], labels)
    np.testing.assert_allclose(found[:, 1], strengths, rtol=1e-12)
    np.testing.assert_allclose(found[:, 2], np.maximum(outliers, 0), rtol=1e-9, atol=1e-12)


def test_equally_near_neighbours_count_in_the_order_they_were_fitted(rng: np.random.Generator) -> None:
    """On a grid most distances are equal. What is found is what one of the equally near neighbours gives."""
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), -1).reshape(-1, 2)
    points = np.concatenate([grid, grid + np.array([20, 0]), 0.5 * grid + np.array([0, 20])])[
        rng.permutation(192)
    ].astype(np.float32)
    chosen = settings(samples=4, size=8)
    made, theirs = METHOD.fit(points, chosen), by_package(points, chosen)
    rows = theirs.condensed_tree_.to_numpy()
    above = {int(row["child"]): (int(row["parent"]), float(row["lambda_val"])) for row in rows}
    data = theirs.prediction_data_
    new = np.concatenate([points, points + 0.5, rng.integers(0, 28, size=(300, 2)) / 2]).astype(np.float32)
    for vector, (label, strength, _) in zip(new, assigned(made, new), strict=True):
        distances = np.linalg.norm(points.astype(np.float64) - vector, axis=1)
        in_order = np.lexsort((np.arange(len(points)), distances))
        kth, own_core = distances[in_order[7]], distances[in_order[4]]
        reach = np.maximum(np.maximum(data.core_distances, own_core), distances)
        least = reach[distances <= kth].min()
        allowed = set()
        for neighbour in np.flatnonzero((distances <= kth) & (reach == least)):
            node, leaves = above[int(neighbour)]
            while leaves > 1 / least and node in above and above[node][1] >= 1 / least:
                node = above[node][0]
            found = data.cluster_map.get(node, -1)
            allowed.add((found, 0.0 if found < 0 else min(1.0, 1 / least / data.max_lambdas[node])))
        assert any(label == one and strength == pytest.approx(other) for one, other in allowed)


def test_a_picture_that_stands_still_spoils_no_strengths(rng: np.random.Generator) -> None:
    """The package has 0 for the strength of everything in a cluster that holds more equal points than min_samples."""
    points = blobs(rng, 400, 4)
    still = np.repeat(points[[0, 50]], 30, axis=0)
    points = np.concatenate([points, still])
    made = METHOD.fit(points, settings())
    found = assigned(made, points)
    is_still, is_in = np.arange(len(points)) >= 400, made.labels >= 0
    assert np.isfinite(found).all()
    assert np.isfinite(made.strengths).all()
    assert (found[is_still, 1] == 1).all()
    assert (found[is_still, 2] == 0).all()
    assert (made.strengths[is_still] == 1).all()
    assert np.median(made.strengths[is_in & ~is_still]) > 0.2
    np.testing.assert_array_equal(made.labels, by_package(points, settings()).labels_)


def test_points_at_one_place_are_no_two_clusters() -> None:
    rng = np.random.default_rng(3)
    constant = np.ones((100, 3), np.float32)
    scattered = (9 * rng.normal(size=(9, 3))).astype(np.float32)
    for points in (constant, np.concatenate([constant, scattered])):
        made = METHOD.fit(points, settings())
        assert set(made.labels.tolist()) == {-1}
        assert METHOD.assigner(made.fitted)(points[0]) == (-1, 0.0, 1.0)


def test_clusters_without_any_extent(rng: np.random.Generator) -> None:
    points = np.repeat(rng.normal(size=(3, 4)), 30, axis=0).astype(np.float32)
    made = METHOD.fit(points, settings())
    assert sorted(np.bincount(made.labels)) == [30, 30, 30]
    assert (made.strengths == 1).all()
    found = assigned(made, points)
    np.testing.assert_array_equal(found[:, 0], made.labels)
    assert (found[:, 1:] == [1, 0]).all()
    label, strength, outlier = METHOD.assigner(made.fitted)(points[0] + np.float32(1e-3))
    assert label == made.labels[0]
    assert strength < 1e-6
    assert outlier > 1 - 1e-6


@pytest.mark.parametrize("above", [2, 7, -1])
def test_a_tree_that_leads_nowhere_is_refused(rng: np.random.Generator, above: int) -> None:
    """One in a file may be anybody's; a circle would keep whoever assigns by it for ever."""
    fitted = dict(METHOD.fit(blobs(rng, 400, 4), settings()).fitted)
    METHOD.assigner(fitted)
    fitted["above"] = fitted["above"].copy()
    fitted["above"][2] = above
    with pytest.raises(ValueError, match="its tree is none"):
        METHOD.assigner(fitted)


def test_one_cluster_is_none(rng: np.random.Generator) -> None:
    """Nothing tells it from no cluster at all; the package agrees."""
    points = (0.1 * rng.normal(size=(200, 4))).astype(np.float32)
    chosen = settings(samples=10, size=60)
    assert set(METHOD.fit(points, chosen).labels.tolist()) == {-1} == set(by_package(points, chosen).labels_.tolist())


def test_the_fewest_points_that_can_be_fitted(rng: np.random.Generator) -> None:
    """With fewer than 2 * min_samples, all are neighbours; the package cannot assign then."""
    left, right = rng.normal(size=(6, 3)), rng.normal(size=(5, 3)) + 50
    points = np.concatenate([left, right]).astype(np.float32)
    made = METHOD.fit(points, settings(samples=7, size=3))
    assert set(assigned(made, points)[:, 0]) <= {-1, 0, 1}
    made = METHOD.fit(points, settings(samples=2, size=3))
    assert set(made.labels.tolist()) >= {0, 1}
    np.testing.assert_array_equal(assigned(made, points)[:, 0], made.labels)


def test_components_lose_nothing_that_is_not_there(rng: np.random.Generator) -> None:
    flat = blobs(rng, 300, 4)
    axes, _ = np.linalg.qr(rng.normal(size=(64, 4)))
    lifted = (flat @ axes.T + rng.normal(size=64)).astype(np.float32)
    made, whole = METHOD.fit(lifted, settings(dimensions=4)), METHOD.fit(lifted, settings(dimensions=0))
    assert made.fitted["points"].shape == (300, 4)
    assert whole.fitted["points"].shape == (300, 64)
    both = set(zip(made.labels.tolist(), whole.labels.tolist(), strict=True))
    assert len(both) == len(dict(both)) == 6  # the same clusters, whatever their numbers; and noise
    assert (-1, -1) in both
    np.testing.assert_allclose(assigned(made, lifted)[:, 1:], assigned(whole, lifted)[:, 1:], atol=1e-3)


def test_a_fitted_point_is_at_its_own_place_to_the_bit(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(50, 256)).astype(np.float32)
    made = METHOD.fit(vectors, settings(dimensions=16))
    project = projecting(made.fitted["mean"], made.fitted["components"])
    assert all(
        project(one).tobytes() == point.tobytes() for one, point in zip(vectors, made.fitted["points"], strict=True)
    )
