"""The probe: equal to a slow version, blind to what it must not see, perfect where it can be, else at chance."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from tests.adapt.evaluate.conftest import FPS, episodes

from psm_adapt.evaluate.probe import (
    Recording,
    across_people,
    probe_f1,
    reduced,
    rotated,
    standardised,
    within,
    within_person,
)
from psm_adapt.evaluate.splits import counting


def person(name: str, seed: int, count: int = 500, units: int = 3, noise: float = 1.0) -> Recording:
    """Somebody whose features are their labels, mixed and noisy."""
    draw = np.random.default_rng(seed)
    labels = episodes(count, units, seed)
    mixing = np.random.default_rng(99).normal(size=(units, 8))
    features = labels @ mixing + noise * draw.normal(size=(count, 8)) + draw.normal(size=8)
    return Recording(name, features, labels, np.arange(count) / FPS)


def slow_f1(train_x, train_y, test_x, test_y) -> float:
    """One action unit by the words of the protocol."""
    mean, deviation = train_x.mean(axis=0), train_x.std(axis=0)
    classifier = LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000)
    classifier.fit((train_x - mean) / deviation, train_y)
    return f1_score(test_y, classifier.predict((test_x - mean) / deviation), zero_division=0)


def test_within_equals_the_protocol_in_loops():
    one = person("a", 1, units=4)
    one.labels[:, 3] = False
    one.labels[:8, 3] = True  # 1.6 % of all frames: counts nowhere
    expected = np.full((5, 4), np.nan)
    for block in range(5):
        test = np.arange(100 * block, 100 * block + 100)
        train = [n for n in range(500) if n not in test and all(abs(one.t_s[n] - one.t_s[m]) >= 1 for m in test)]
        for unit in range(4):
            shares = one.labels[train, unit].mean(), one.labels[test, unit].mean()
            if all(0.02 <= share <= 0.98 for share in shares):
                halves = (one.features[train], one.labels[train, unit], one.features[test], one.labels[test, unit])
                expected[block, unit] = slow_f1(*halves)
    scores = within_person(one.features, one.labels, one.t_s)
    np.testing.assert_allclose(scores[:3], np.nanmean(expected[:, :3], axis=0), atol=1e-12)
    assert np.isnan(scores[3])
    assert np.isnan(expected[:, 3]).all()


def test_across_equals_the_protocol_in_loops():
    people = [person("a", 1, 300), person("a", 2, 450), person("b", 3, 420), person("c", 4, 300)]
    drawn = []
    for one in people:
        some = np.arange(len(one.t_s))
        if len(some) > 400:
            some = np.random.default_rng(0).choice(len(some), 400, replace=False)
        drawn.append((one.person, one.features[some], one.labels[some]))
    scores = across_people(people)
    assert scores.people == ("a", "b", "c")
    for row, name in enumerate(scores.people):
        train = [entry for entry in drawn if entry[0] != name]
        test = [entry for entry in drawn if entry[0] == name]
        halves = [np.concatenate([entry[n] for entry in some]) for some in (train, test) for n in (1, 2)]
        expected = [slow_f1(halves[0], halves[1][:, unit], halves[2], halves[3][:, unit]) for unit in range(3)]
        np.testing.assert_allclose(scores.f1[row], expected, atol=0.005)  # another order of the drawn frames


def test_perfect_features_score_1():
    people = [person(name, seed, noise=0.0) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    people = [Recording(one.person, one.labels.astype(float), one.labels, one.t_s) for one in people]
    assert within(people).mean() == 1.0
    assert across_people(people).mean() == 1.0


def test_shuffled_labels_score_no_better_than_chance(rng):
    people = [person(name, seed, noise=0.4) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    shuffled = [Recording(one.person, one.features, rng.permutation(one.labels), one.t_s) for one in people]
    share = np.mean([one.labels.mean() for one in people])
    chance = share / (share + 0.5)  # of guessing half of the frames positive
    for take in (within, across_people):
        assert take(people).mean() > chance + 0.25
        assert take(shuffled).mean() < chance + 0.05


def test_knowing_the_time_is_worth_nothing():
    count = 1000
    t_s = np.arange(count) / FPS
    clock = np.exp(-0.5 * ((t_s[:, None] - np.arange(0, 40, 0.4)) / 0.4) ** 2)
    labels = episodes(count, 3, 5, length=50)
    assert within_person(clock, labels, t_s)[counting(labels)].max() < 0.5
    # the same features are nearly perfect where neighbours in time are in training
    train, test = np.arange(count) % 5 != 0, np.arange(count) % 5 == 0
    assert probe_f1((clock[train], labels[train]), (clock[test], labels[test]), counting(labels)).min() > 0.9


def test_a_person_is_never_tested_on_themselves():
    people = [person(name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3), ("d", 4))]
    before = across_people(people)
    own = people[2]
    changed = Recording(own.person, own.features, ~own.labels, own.t_s)
    after = across_people([*people[:2], changed, people[3]])
    scores = across_people(people, tested=["c"])
    np.testing.assert_array_equal(scores.f1[0], before.f1[2])
    assert not np.array_equal(before.f1[0], after.f1[0])  # the others are taught by them
    alone = across_people(people[:2], tested=["a"])
    np.testing.assert_array_equal(alone.f1, across_people([people[0], people[1]]).f1[:1])


def test_test_frames_leave_the_statistics_alone(rng):
    train, test = rng.normal(size=(50, 4)), rng.normal(size=(20, 4))
    both = standardised(train, test)
    np.testing.assert_allclose(both[0].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(both[0].std(axis=0), 1, atol=1e-12)
    changed = test.copy()
    changed[1:] = 1e6
    np.testing.assert_array_equal(standardised(train, changed)[1][0], both[1][0])


def test_constant_features_do_no_harm():
    one = person("a", 1)
    features = np.hstack([one.features, np.full((500, 2), 0.1, np.float32)])
    np.testing.assert_allclose(
        within_person(features, one.labels, one.t_s), within_person(one.features, one.labels, one.t_s), atol=1e-9
    )


def test_rotation_changes_no_decision(rng):
    train, test = rng.normal(size=(60, 400)), rng.normal(size=(40, 400))
    labels = train[:, 0] + train[:, 1] > 0
    small_train, small_test = rotated(train, test)
    assert small_train.shape[1] <= 60
    decisions = []
    for x, y in ((train, test), (small_train, small_test)):
        classifier = LogisticRegression(C=0.01, tol=1e-10, max_iter=10_000).fit(x, labels)
        decisions.append(classifier.decision_function(y))
    np.testing.assert_allclose(decisions[0], decisions[1], atol=1e-6)
    assert rotated(train[:, :100], test[:, :100])[0].shape == (60, 100)


def test_components_are_of_the_training_frames(rng):
    train = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 30))
    test = rng.normal(size=(10, 30)) * 100
    small_train, small_test = reduced(train, test, 3)
    assert small_train.shape == (80, 3)
    np.testing.assert_allclose(
        np.linalg.norm(small_train, axis=1), np.linalg.norm(train - train.mean(0), axis=1), rtol=1e-4
    )
    assert (np.linalg.norm(small_test, axis=1) < np.linalg.norm(test - train.mean(0), axis=1)).all()


def test_more_components_than_frames_are_taken_as_far_as_they_go():
    people = [person(name, seed, 30) for name, seed in (("a", 1), ("b", 2))]
    assert across_people(people, components=64).f1.shape == (2, 3)


def test_threads_do_not_change_the_numbers():
    people = [person(name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    for take in (within, across_people):
        np.testing.assert_array_equal(take(people, threads=1).f1, take(people, threads=3).f1)


def test_blocks_of_several_recordings_count_alike():
    first, second = person("a", 1, units=2), person("a", 2, units=2)
    second.labels[100:, 1] = False  # counts in none of its blocks
    together = within([first, second]).f1[0]
    apart = [within_person(one.features, one.labels, one.t_s) for one in (first, second)]
    assert np.isnan(apart[1][1])
    np.testing.assert_allclose(together, [np.mean([apart[0][0], apart[1][0]]), apart[0][1]])


@pytest.mark.parametrize("count", [3, 20])
def test_a_moment_of_video_counts_for_nothing(count):
    assert np.isnan(within([person("a", 1, count)]).mean())


def test_raw_bytes_are_features(rng):
    one = person("a", 1)
    crops = (one.labels[:, :1] * 100 + rng.integers(0, 50, (500, 5))).astype(np.uint8)
    assert within_person(crops, one.labels[:, :1], one.t_s)[0] == 1.0
