"""The figures of the gate, against slow and obvious versions of them."""

import numpy as np
import pytest

from psm_export.parity.figures import clusters_kept, cosines, measure_parity, neighbours_kept, spread


def test_parity_figures() -> None:
    reference = np.array([[3.0, 4.0], [1.0, 0.0]])
    given = np.array([[3.0, 4.0], [1.0, 0.5]], np.float32)
    parity = measure_parity(reference, given, "by hand", "crops of nobody")
    assert parity.max_abs == 0.5
    assert parity.mean_abs == 0.12  # two digits of 0.125
    assert parity.cosine == pytest.approx(1 / np.sqrt(1.25), abs=1e-6)
    assert parity.cosine_mean == pytest.approx((1 + 1 / np.sqrt(1.25)) / 2, abs=1e-6)
    assert parity.tolerance == 1.0
    assert (parity.crops, parity.of, parity.reference) == (2, "crops of nobody", "by hand")
    assert measure_parity(reference, reference.astype(np.float32), "itself").tolerance == 1e-4


def test_cosines_of_zero_vectors_are_numbers() -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert cosines(zero, zero) == 1
    assert cosines(zero, one) == 0


def test_the_spread_is_the_deviation_from_face_to_face(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(50, 7)) * 3 + 100
    by_hand = np.mean([np.var(vectors[:, column]) for column in range(7)]) ** 0.5
    assert spread(vectors) == pytest.approx(by_hand)
    assert spread(np.full((9, 4), -2.0)) == pytest.approx(2e-3)  # a thousandth, where all are the same


def test_neighbours_kept_is_the_obvious_count(rng: np.random.Generator) -> None:
    reference = rng.normal(size=(40, 5))
    given = reference + rng.normal(size=(40, 5)) * 0.4
    kept = 0
    for place in range(40):
        wanted = np.linalg.norm(reference - reference[place], axis=1)
        found = np.linalg.norm(given - given[place], axis=1)
        others = [other for other in range(40) if other != place]
        limit = sorted(wanted[others])[4] * 1.1
        kept += sum(wanted[other] <= limit for other in sorted(others, key=lambda other: found[other])[:5])
    assert neighbours_kept(reference, given) == pytest.approx(kept / 200, abs=1e-4)
    assert kept < 200


def test_neighbours_of_the_same_vectors_are_all_kept(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(30, 4))
    assert neighbours_kept(vectors, vectors) == 1
    assert neighbours_kept(vectors, -vectors) == 1  # distances are the same


def test_too_few_crops_say_nothing_of_neighbours_or_clusters(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(99, 4))
    assert neighbours_kept(vectors[:19], vectors[:19]) is None
    assert clusters_kept(vectors, vectors) is None


def test_clusters_kept_counts_those_that_moved(rng: np.random.Generator) -> None:
    centres = np.array([[0.0, 0], [20, 0], [0, 20]])
    reference = np.repeat(centres, 40, axis=0) + rng.normal(size=(120, 2))
    assert clusters_kept(reference, reference + rng.normal(size=(120, 2)) * 1e-3) == 1
    moved = reference.copy()
    moved[:12] += (20, 0)  # twelve of the first cluster into the second
    kept = clusters_kept(reference, moved)
    assert kept is not None
    assert 0.85 <= kept <= 0.92


def test_clusters_kept_without_clusters_goes_by_centres(rng: np.random.Generator) -> None:
    reference = rng.normal(size=(120, 3))
    assert clusters_kept(reference, reference) == 1
    other = clusters_kept(reference, rng.normal(size=(120, 3)))
    assert other is not None
    assert other < 0.5
