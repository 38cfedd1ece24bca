"""F1 scores of people and action units, and means over those that count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scores:
    """F1 of each person and action unit. people: P names. f1: [P, A], NaN where an action unit does not count."""

    people: tuple[str, ...]
    f1: Array

    def by_person(self) -> Array:
        """Mean over the action units that count, [P]; NaN for a person in whom none does."""
        return mean_of_known(self.f1, axis=1)

    def by_unit(self) -> Array:
        """Mean over the people in whom it counts, [A]; NaN for an action unit that counts in nobody."""
        return mean_of_known(self.f1, axis=0)

    def mean(self) -> float:
        """Mean over action units, then over people; NaN when nothing counts."""
        return float(mean_of_known(self.by_person()))

    def mean_of_pairs(self) -> float:
        """Mean over all pairs of person and action unit that count; NaN when none does."""
        return float(mean_of_known(self.f1.ravel()))


def f1_of_units(truth: Labels, said: Labels) -> Array:
    """F1 of the positive class for each action unit: 2 hits / (2 hits + false alarms + misses).

    truth, said: bool [N, A]. Returns [A]; 0 where nothing is positive.
    """
    return _f1(np.count_nonzero(truth & said, axis=0), np.count_nonzero(truth ^ said, axis=0))


def bootstrapped_f1(truth: Labels, said: Labels, draws: int, generator: np.random.Generator) -> Array:
    """F1 of each action unit in so many samples of N frames, drawn with replacement.

    truth, said: bool [N, A]. Returns [draws, A]. How far these scatter says how much the frames matter. They are no
    independent measurements, so nothing may be tested over them.
    """
    times = generator.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), draws).astype(np.float64)
    return _f1(times @ (truth & said), times @ (truth ^ said))


def mean_of_known(values: Array, axis: int = 0) -> Array:
    """Mean of what is not NaN; NaN where there is nothing, without NumPy's warning."""
    is_known = ~np.isnan(values)
    count = is_known.sum(axis=axis)
    total = np.where(is_known, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def _f1(hits: NDArray[np.number], wrong: NDArray[np.number]) -> Array:  # type: ignore[type-arg]
    return np.divide(2 * hits, 2 * hits + wrong, out=np.zeros(np.shape(hits)), where=hits > 0)
