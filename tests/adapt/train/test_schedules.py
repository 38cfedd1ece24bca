"""Learning rates and the neutral face's weight, against the published tables."""

import numpy as np
import pytest

from psm_adapt.config import OptimiserSettings
from psm_adapt.train.schedules import facecycle, learning_rate, neutral_weight, psm, warmup_cosine


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 8e-5), (9, 8e-5), (10, 5e-5), (49, 5e-5), (50, 1e-5), (199, 1e-5), (200, 5e-6), (500, 5e-6)],
)
def test_psm(epoch: int, rate: float) -> None:
    assert psm(epoch) == rate


def test_psm_with_other_ends() -> None:
    settings = OptimiserSettings(schedule="psm", lr=1e-3, min_lr=1e-7)
    rates = [learning_rate(settings, epoch, 0, 1) for epoch in (9, 10, 50, 200)]
    assert rates == [1e-3, 5e-5, 1e-5, 1e-7]


# the authors count epochs from 0: 0 | 1-19 | 20-39 | 40-
@pytest.mark.parametrize(
    ("epoch", "rate"), [(1, 1e-5), (2, 5e-5), (20, 5e-5), (21, 1e-5), (40, 1e-5), (41, 5e-6), (60, 5e-6)]
)
def test_facecycle(epoch: int, rate: float) -> None:
    assert facecycle(epoch) == rate
    assert learning_rate(OptimiserSettings(schedule="facecycle"), epoch, 0, 1) == rate


def test_warmup_and_cosine() -> None:
    settings = OptimiserSettings(schedule="cosine", lr=1.0, min_lr=0.1, warmup_steps=4)
    rates = [learning_rate(settings, 1, step, 15) for step in range(15)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[9] == pytest.approx(0.55)  # halfway down
    assert rates[14] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert warmup_cosine(20, 15, settings) == pytest.approx(0.1)  # more steps than were planned


def test_cosine_without_warmup_of_a_single_step() -> None:
    assert learning_rate(OptimiserSettings(schedule="cosine", lr=1.0, min_lr=0.1), 1, 0, 1) == 1.0


def test_constant() -> None:
    assert {learning_rate(OptimiserSettings(schedule="constant", lr=3e-4), e, e, 9) for e in (1, 50, 500)} == {3e-4}


@pytest.mark.parametrize("weights", [[1.0, 0.1], [0.0, 2.0], [0.7]])
@pytest.mark.parametrize("epochs", [1, 2, 17])
def test_the_neutral_weight_is_numpys_linspace(weights: list[float], epochs: int) -> None:
    expected = np.linspace(weights[0], weights[-1], epochs)
    given = [neutral_weight(weights, epoch, epochs) for epoch in range(1, epochs + 1)]
    np.testing.assert_allclose(given, expected, rtol=1e-12)


def test_no_neutral_weight_is_one() -> None:
    assert [neutral_weight(None, epoch, 17) for epoch in (1, 17)] == [1, 1]
