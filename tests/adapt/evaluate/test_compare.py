"""Comparisons over people: against every sign by brute force, against SciPy, and by hand."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import rankdata, wilcoxon

from psm_adapt.evaluate.compare import DRAWS, compare, holm


def signed_rank_p(difference: np.ndarray) -> float:
    """Two-sided p of the signed-rank test, over every assignment of signs."""
    ranks = rankdata(np.abs(difference))
    seen = abs(ranks @ np.sign(difference))
    sums = [abs(ranks @ np.array(signs)) for signs in product((-1, 1), repeat=len(ranks))]
    return float(np.mean([value >= seen - 1e-9 for value in sums]))


@pytest.mark.parametrize("people", [4, 7, 10])
def test_wilcoxon_equals_every_assignment_of_signs(people):
    draw = np.random.default_rng(people)
    first, second = draw.random(people), draw.random(people) - 0.2
    result = compare(first, second)
    assert result.p_wilcoxon == pytest.approx(signed_rank_p(first - second))
    assert result.p_wilcoxon == pytest.approx(wilcoxon(first, second).pvalue)


def test_by_hand():
    result = compare(np.array([0.5, 0.7, 0.6, np.nan]), np.array([0.4, 0.8, 0.3, 0.1]))
    assert (result.people, result.better) == (3, 2)
    assert result.mean == pytest.approx(0.1)
    # means of three draws of .1, -.1, .3 with replacement: the extremes have 1/27 each
    assert (result.low, result.high) == (pytest.approx(-0.1), pytest.approx(0.3))
    # of the 27 draws those of -.1 alone (1), and twice with .1 (3), have means below 0, and none has 0
    assert result.p_bootstrap == pytest.approx(2 * 4 / 27, abs=0.02)


def test_the_order_of_models_turns_the_sign_alone(rng):
    first, second = rng.random(9), rng.random(9)
    there, back = compare(first, second), compare(second, first)
    assert there.mean == pytest.approx(-back.mean)
    assert there.p_wilcoxon == pytest.approx(back.p_wilcoxon)
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    assert there.p_bootstrap == back.p_bootstrap


def test_a_model_against_itself(rng):
    scores = rng.random(8)
    result = compare(scores, scores)
    assert (result.mean, result.better, result.p_wilcoxon, result.p_bootstrap) == (0, 0, 1.0, 1.0)


def test_a_clear_difference(rng):
    result = compare(rng.random(20) + 1, rng.random(20))
    assert result.better == 20
    assert result.p_wilcoxon == pytest.approx(2 / 2**20)
    assert result.p_bootstrap == pytest.approx(2 / (DRAWS + 1))
    assert result.low > 0


def test_few_people_are_never_sure(rng):
    result = compare(rng.random(4) + 1, rng.random(4))
    assert result.better == 4
    assert result.p_wilcoxon == result.p_bootstrap == 2 / 2**4


def test_p_is_uniform_when_there_is_no_difference():
    draw = np.random.default_rng(5)
    found = np.array([compare(draw.random(10), draw.random(10)).p_bootstrap for _ in range(150)])
    assert 0.01 <= np.mean(found < 0.05) <= 0.15
    assert 0.35 < np.mean(found < 0.5) < 0.65


def test_nobody_in_common():
    result = compare(np.array([np.nan, 1]), np.array([1, np.nan]))
    assert result.people == 0
    assert np.isnan([result.mean, result.p_wilcoxon, result.low, result.high, result.p_bootstrap]).all()


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    adjusted = holm([0.02, float("nan")])
    assert adjusted[0] == 0.02
    assert np.isnan(adjusted[1])
