"""Splits: no frame on both sides, seams, shares of action units, folds by identity, and which labels count."""

import numpy as np
import pytest

from psm_adapt.evaluate.splits import counting, frequent, identity_folds, random_fifth, time_blocks
from psm_stream.errors import AdaptationError


def labels_with(positive: int, count: int) -> np.ndarray:
    labels = np.zeros((count, 1), bool)
    labels[:positive] = True
    return labels


@pytest.mark.parametrize(("positive", "counts"), [(1, False), (2, True), (98, True), (99, False)])
def test_counting_is_2_to_98_percent(positive, counts):
    assert counting(labels_with(positive, 100)).tolist() == [counts]


@pytest.mark.parametrize(("positive", "counts"), [(1, False), (2, True), (99, True), (100, False)])
def test_published_rule_is_2_percent_and_not_all(positive, counts):
    assert frequent(labels_with(positive, 100)).tolist() == [counts]


@pytest.mark.parametrize("rule", [counting, frequent])
def test_nothing_counts_in_no_frames(rule):
    assert rule(np.zeros((0, 3), bool)).tolist() == [False] * 3


def test_blocks_cover_every_frame_once_and_keep_their_distance(rng):
    t_s = np.cumsum(rng.random(333) * 0.1)
    folds = time_blocks(t_s, 5, 1.0)
    assert np.concatenate([test for _, test in folds]).tolist() == list(range(333))
    for train, test in folds:
        assert np.diff(test).tolist() == [1] * (len(test) - 1)
        expected = [
            n for n in range(333) if n not in test and min(abs(t_s[n] - t_s[test[0]]), abs(t_s[n] - t_s[test[-1]])) >= 1
        ]
        assert train.tolist() == expected


def test_blocks_of_whole_seconds():
    train, test = time_blocks(np.arange(10.0), 5, 1.0)[1]
    assert test.tolist() == [2, 3]
    assert train.tolist() == [0, 1, 4, 5, 6, 7, 8, 9]  # 1 and 4 are a whole second away


def test_too_few_frames_for_blocks():
    with pytest.raises(AdaptationError, match="4 frames cannot be cut into 5 blocks"):
        time_blocks(np.arange(4.0), 5, 1.0)


def test_time_that_goes_backwards():
    with pytest.raises(AdaptationError, match="goes backwards"):
        time_blocks(np.array([0, 1, 2, 1.5, 3]), 2, 0.1)


def test_random_fifth_keeps_the_share_of_each_unit(rng):
    labels = rng.random((1000, 6)) < np.array([0.03, 0.1, 0.2, 0.3, 0.5, 0.8])
    train, test = random_fifth(labels, np.random.default_rng(1))
    assert sorted([*train, *test]) == list(range(1000))
    assert len(test) == 200
    combinations = len(np.unique(labels, axis=0))
    # within one frame for each combination of units, and usually much nearer
    assert np.abs(labels[test].sum(0) - labels.sum(0) / 5).max() <= min(combinations, 8)
    assert np.ptp(np.diff(test)) > 3  # it is no regular pattern in time


def test_random_fifth_depends_on_the_seed_alone(rng):
    labels = rng.random((100, 3)) < 0.3
    first, again, other = (random_fifth(labels, np.random.default_rng(seed))[1].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_identity_folds_by_hand():
    assert identity_folds(["d", "a", "c", "b", "a"], 3) == [("a", "d"), ("b",), ("c",)]


def test_too_few_people_for_folds():
    with pytest.raises(AdaptationError, match="need 3 people or more, there are 2"):
        identity_folds(["a", "b"], 3)
