"""Retrieval by cosine: against a loop, and the agreement of labels by hand."""

import numpy as np

from psm_adapt.evaluate.retrieval import agreement, nearest_frames, queries_for_sheet


def test_nearest_equal_a_loop(rng):
    features, whose = rng.normal(size=(60, 5)).astype(np.float32), rng.integers(0, 4, 60)
    found = nearest_frames(features, whose, 5)
    for query in range(60):
        cosines = {
            n: features[query] @ features[n] / np.linalg.norm(features[query]) / np.linalg.norm(features[n])
            for n in range(60)
            if whose[n] != whose[query]
        }
        assert found[query].tolist() == sorted(cosines, key=cosines.__getitem__, reverse=True)[:5]


def test_length_does_not_matter_and_nothing_is_near_to_nothing(rng):
    features, whose = rng.normal(size=(30, 4)), np.arange(30) % 3
    scaled = features * rng.uniform(0.1, 10, (30, 1))
    np.testing.assert_array_equal(nearest_frames(features, whose), nearest_frames(scaled, whose))
    assert nearest_frames(np.zeros((4, 3)), np.array([0, 0, 1, 1])).tolist() == [
        [2, 3, -1, -1, -1],
        [2, 3, -1, -1, -1],
        [0, 1, -1, -1, -1],
        [0, 1, -1, -1, -1],
    ]


def test_agreement_by_hand():
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 0], [1, 1], [0, 1]], bool)
    whose = np.array([0, 0, 0, 0, 1, 1])
    found = np.array([[4, 5], [4, -1], [5, 4], [5, 4], [0, 3], [2, 1]])
    agreed = agreement(found, labels, whose, ("a", "b"))
    # a: queries 0 and 1 show the first unit; of 4, 5, 4 two show it, too. Nobody of a shows the second.
    # b: query 4 shows the first; of 0 and 3 one does. All of b shows the second, which is no choice.
    np.testing.assert_allclose(agreed.scores.f1, [[2 / 3, np.nan], [1 / 2, np.nan]])
    np.testing.assert_allclose(agreed.chance, [[1 / 2, np.nan], [1 / 2, np.nan]])


def test_perfect_features_agree_and_noise_is_at_chance(rng):
    labels = rng.random((400, 3)) < 0.3
    labels[:, 0] |= ~labels.any(axis=1)
    whose = np.arange(400) % 4
    people = ("a", "b", "c", "d")
    perfect = agreement(nearest_frames(labels.astype(float), whose), labels, whose, people)
    assert perfect.scores.mean() > 0.99
    blind = agreement(nearest_frames(rng.normal(size=(400, 3)), whose), labels, whose, people)
    assert abs(blind.scores.mean() - blind.chance.mean()) < 0.04


def test_queries_show_the_most():
    labels = np.array([[0, 0], [1, 1], [1, 1], [1, 0], [0, 0]], bool)
    assert queries_for_sheet(labels, np.array([0, 0, 0, 1, -1])).tolist() == [1, 3]
