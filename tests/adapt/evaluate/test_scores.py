"""F1 scores, their bootstraps and means."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from psm_adapt.evaluate.scores import Scores, bootstrapped_f1, f1_of_units, mean_of_known


def test_f1_by_hand():
    truth = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    said = np.array([[1, 0], [0, 0], [1, 1], [1, 0]], bool)
    # first: 2 hits, 1 false alarm, 1 miss; second: nothing to find
    assert f1_of_units(truth, said).tolist() == [pytest.approx(4 / 6), 0.0]


def test_f1_equals_scikit_learns(rng):
    truth, said = rng.random((200, 7)) < 0.3, rng.random((200, 7)) < 0.4
    expected = [f1_score(truth[:, unit], said[:, unit]) for unit in range(7)]
    np.testing.assert_allclose(f1_of_units(truth, said), expected, rtol=1e-12)


def test_bootstraps_equal_resampled_frames(rng):
    truth, said = rng.random((50, 3)) < 0.4, rng.random((50, 3)) < 0.4
    draws = bootstrapped_f1(truth, said, 20, np.random.default_rng(3))
    times = np.random.default_rng(3).multinomial(50, np.full(50, 1 / 50), 20)
    for draw, counts in zip(draws, times, strict=True):
        rows = np.repeat(np.arange(50), counts)
        assert len(rows) == 50
        np.testing.assert_allclose(draw, f1_of_units(truth[rows], said[rows]), rtol=1e-12)


def test_bootstraps_scatter_around_the_score(rng):
    truth = rng.random((400, 2)) < 0.5
    said = truth ^ (rng.random((400, 2)) < 0.2)
    draws = bootstrapped_f1(truth, said, 300, rng)
    assert draws.std(axis=0).min() > 0.005
    np.testing.assert_allclose(draws.mean(axis=0), f1_of_units(truth, said), atol=0.01)


def test_means_skip_what_does_not_count():
    nan = np.nan
    scores = Scores(("a", "b", "c"), np.array([[0.2, 0.4, nan], [0.9, nan, nan], [nan, nan, nan]]))
    np.testing.assert_allclose(scores.by_person(), [0.3, 0.9, nan])
    np.testing.assert_allclose(scores.by_unit(), [0.55, 0.4, nan])
    assert scores.mean() == pytest.approx(0.6)  # people count alike
    assert scores.mean_of_pairs() == pytest.approx(0.5)  # pairs count alike


def test_mean_of_nothing_is_nan():
    assert np.isnan(mean_of_known(np.array([np.nan, np.nan])))
