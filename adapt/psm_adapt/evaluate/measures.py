"""A measure: one figure of one model, with what it is a mean of, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from psm_adapt.evaluate.scores import Scores


@dataclass(frozen=True, slots=True)
class Kind:
    """What is measured. key: `protocol.figure`, as in results.json. title: for tables. is_error: small is good."""

    key: str
    title: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of one model.

    value: NaN when there is none; then `trouble` says why. by_person, by_unit: means, without those in whom nothing
    counts. table: person -> action unit -> value. details: what else is known. picture: uint8 [H, W, 3] RGB, to keep.
    """

    kind: Kind
    value: float
    by_person: Mapping[str, float] = field(default_factory=dict)
    by_unit: Mapping[str, float] = field(default_factory=dict)
    table: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    details: Mapping[str, JsonValue] = field(default_factory=dict)
    trouble: str = ""
    picture: NDArray[np.uint8] | None = None


def of_scores(
    kind: Kind,
    scores: Scores,
    units: tuple[str, ...],
    details: Mapping[str, JsonValue] | None = None,
    trouble: str = "",
) -> Measure:
    """Make a measure of F1 scores: their mean over action units, then people.

    trouble: said when nothing counts, so that there is no mean.
    """
    rows = zip(scores.people, scores.f1, strict=True)
    table = {person: known(units, row) for person, row in rows}
    return Measure(
        kind,
        value=scores.mean(),
        by_person=known(scores.people, scores.by_person()),
        by_unit=known(units, scores.by_unit()),
        table={person: row for person, row in table.items() if row},
        details=details or {},
        trouble=trouble if math.isnan(scores.mean()) else "",
    )


def of_people(kind: Kind, by_person: Mapping[str, float], details: Mapping[str, JsonValue], trouble: str) -> Measure:
    """Make a measure of one value per person: their mean. trouble: said when there is nobody."""
    value = float(np.mean(list(by_person.values()))) if by_person else math.nan
    return Measure(kind, value, by_person, details=details, trouble="" if by_person else trouble)


def without(kind: Kind, trouble: str) -> Measure:
    """Make a measure that could not be taken, and say why."""
    return Measure(kind, math.nan, trouble=trouble)


def known(names: tuple[str, ...], values: NDArray[np.float64]) -> dict[str, float]:
    """Return what is not NaN, by name."""
    return {name: float(value) for name, value in zip(names, values, strict=True) if not np.isnan(value)}


def number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)
