"""Comparing two models over people.

People are the sample: frames of one person, or bootstrap draws of them, are not independent, and a test over them
finds any difference significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

from psm_adapt.evaluate.scores import Array

DRAWS = 10_000
FEWEST_FOR_WILCOXON = 6
"""With fewer people no signed-rank test can go below p = 0.05, however large the difference."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model minus another, over the people in whom both are known.

    people: how many. mean: of the differences, or NaN. better: in how many people the first is larger. p_wilcoxon:
    signed rank, two-sided, exact where SciPy has it so; NaN without people. low, high: 95 % interval of the mean, by a
    bootstrap over people. p_bootstrap: two-sided, of the same draws, but never below 2 / 2^people, the least that a
    test of signs can give: a bootstrap of few people knows too little of how they scatter, and would be too sure.
    """

    people: int
    mean: float
    better: int
    p_wilcoxon: float
    low: float
    high: float
    p_bootstrap: float


def compare(first: Array, second: Array) -> Comparison:
    """Compare two models, paired over people. first, second: [P] score of each person, NaN where it is not known."""
    difference = (first - second)[~np.isnan(first - second)]
    if not len(difference):
        return Comparison(0, *(np.nan,), 0, *(np.nan,) * 4)
    means = _bootstrapped_means(difference)
    low, high = np.quantile(means, (0.025, 0.975))
    return Comparison(
        people=len(difference),
        mean=float(difference.mean()),
        better=int(np.count_nonzero(difference > 0)),
        p_wilcoxon=float(wilcoxon(difference).pvalue) if difference.any() else 1.0,
        low=float(low),
        high=float(high),
        p_bootstrap=max(_two_sided(means), 2 / 2 ** len(difference)),
    )


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p values for so many comparisons. NaN stays NaN and counts for none. Source: Holm 1979."""
    known = sorted((value, n) for n, value in enumerate(p) if not np.isnan(value))
    adjusted = list(map(float, p))
    largest = 0.0
    for rank, (value, n) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        adjusted[n] = largest
    return adjusted


def _bootstrapped_means(difference: Array) -> Array:
    drawn = np.random.default_rng(0).integers(len(difference), size=(DRAWS, len(difference)))
    means: Array = difference[drawn].mean(axis=1)
    return means


def _two_sided(means: Array) -> float:
    """Twice the share of draws on the smaller side of 0; no draw there still leaves one in all of them."""
    smaller = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return float(min(1.0, 2 * (smaller + 1) / (len(means) + 1)))
