"""The published protocols, and that the honest split catches what the published one does not."""

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import FPS, episodes

from psm_adapt.evaluate.linear import said_by_linear
from psm_adapt.evaluate.probe import Recording
from psm_adapt.evaluate.published import (
    DRAWS,
    Split,
    person_dependent,
    person_independent,
    published_units,
)
from psm_adapt.evaluate.scores import f1_of_units
from psm_adapt.evaluate.splits import frequent, random_fifth, time_blocks
from psm_stream.errors import AdaptationError


def person(name: str, seed: int, count: int = 300) -> Recording:
    labels = episodes(count, 3, seed)
    draw = np.random.default_rng(seed)
    features = labels @ np.random.default_rng(9).normal(size=(3, 6)) + 0.5 * draw.normal(size=(count, 6))
    return Recording(name, features, labels, np.arange(count) / FPS)


def rules(recordings: list[Recording]) -> list[np.ndarray]:
    return [frequent(recording.labels) for recording in recordings]


def test_random_split_equals_the_words():
    one = person("a", 1)
    train, test = random_fifth(one.labels, np.random.default_rng(0))
    said = said_by_linear((one.features[train], one.labels[train]), (one.features[test], one.labels[test]))
    done = person_dependent([one], rules([one]), Split(blocked=False))
    np.testing.assert_array_equal(done.scores.f1[0], f1_of_units(one.labels[test], said))
    assert done.bootstraps.shape == (1, DRAWS)
    assert abs(done.bootstraps.mean() - done.scores.mean()) < 0.03


def test_blocked_split_pools_the_blocks():
    one = person("a", 1)
    said = np.zeros_like(one.labels)
    for train, test in time_blocks(one.t_s, 5, 1.0):
        halves = (one.features[train], one.labels[train]), (one.features[test], one.labels[test])
        said[test] = said_by_linear(*halves)
    done = person_dependent([one], rules([one]), Split(blocked=True))
    np.testing.assert_array_equal(done.scores.f1[0], f1_of_units(one.labels, said))


def test_a_clock_scores_high_in_the_random_split_alone():
    count = 500
    t_s = np.arange(count) / FPS
    clock = np.exp(-0.5 * ((t_s[:, None] - np.arange(0, 20, 0.4)) / 0.4) ** 2)
    one = Recording("a", clock, episodes(count, 3, 2, length=25), t_s)
    assert person_dependent([one], rules([one]), Split(blocked=False)).scores.f1.min() > 0.85
    assert person_dependent([one], rules([one]), Split(blocked=True)).scores.f1.max() < 0.55


def test_the_2_percent_rule_is_of_the_full_recording():
    one = person("a", 1)
    counts = [np.array([True, False, True])]  # as the full labels say, whatever these frames say
    done = person_dependent([one], counts, Split(blocked=True))
    assert np.isnan(done.scores.f1[0]).tolist() == [False, True, False]


def test_folds_by_identity():
    people = [person(name, seed, 200) for seed, name in enumerate("abcdef")]
    done = person_independent(people)
    assert done.tested == (("a", "d"), ("b", "e"), ("c", "f"))
    train = [one for one in people if one.person not in "be"]
    test = [one for one in people if one.person in "be"]
    halves = [
        (np.concatenate([one.features for one in some]), np.concatenate([one.labels for one in some]))
        for some in (train, test)
    ]
    said = said_by_linear(*halves)
    np.testing.assert_array_equal(done.folds[1], f1_of_units(halves[1][1], said))
    np.testing.assert_array_equal(done.scores.f1[1], f1_of_units(test[0].labels, said[:200]))
    np.testing.assert_array_equal(done.scores.f1[4], f1_of_units(test[1].labels, said[200:]))
    assert done.bootstraps.shape == (3, DRAWS)


def test_a_unit_that_no_test_frame_shows_does_not_count():
    people = [person(name, seed, 200) for seed, name in enumerate("abc")]
    people[1].labels[:, 2] = False
    done = person_independent(people)
    assert np.isnan(done.folds).tolist() == [[False] * 3, [False, False, True], [False] * 3]


def test_too_few_people():
    with pytest.raises(AdaptationError, match="3 folds by identity need 3 people"):
        person_independent([person("a", 1, 100), person("b", 2, 100)])


@pytest.mark.parametrize("blocked", [False, True])
def test_a_moment_of_video_has_no_part(blocked):
    people = [person("a", 1), person("b", 2, 20), person("a", 3, 3)]
    done = person_dependent(people, rules(people), Split(blocked))
    alone = person_dependent(people[:1], rules(people[:1]), Split(blocked))
    np.testing.assert_array_equal(done.scores.f1, np.vstack([alone.scores.f1, np.full((1, 3), np.nan)]))
    assert (done.too_short, alone.too_short) == (2, 0)
    assert np.isnan(done.bootstraps[1]).all()


def test_components_keep_what_matters(rng):
    people = [person(name, seed, 200) for seed, name in enumerate("abc")]
    wide = [
        Recording(
            one.person, one.features @ np.eye(6, 100) * 10 + rng.normal(size=(200, 100)) * 0.01, one.labels, one.t_s
        )
        for one in people
    ]
    reduced, whole = person_independent(wide, components=6), person_independent(people)
    assert abs(reduced.scores.mean() - whole.scores.mean()) < 0.03


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (("AU1", "AU2", "AU5", "AU26"), [0, 1, 3]),
        (("AU12", "AU6+7", "AU1"), [2, 0]),
        (("AU14", "AU18"), [0, 1]),
    ],
)
def test_published_units(units, expected):
    assert published_units(units) == expected
