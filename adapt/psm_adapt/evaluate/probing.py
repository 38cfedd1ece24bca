"""Measures of probes: how well a linear classifier reads action units off the features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import JsonValue

from psm_adapt.evaluate.clips import people_in
from psm_adapt.evaluate.measures import Kind, Measure, known, number, of_scores, without
from psm_adapt.evaluate.probe import across_people, within
from psm_adapt.evaluate.scores import Array, mean_of_known
from psm_adapt.evaluate.subject import Subject

WITHIN = Kind("probe.within", "probe, within a person, blocked in time")
ACROSS = Kind("probe.across", "probe, across people")
RANDOM = Kind("person-dependent.random", "published, within a person, random 80/20 (flatters)")
BLOCKED = Kind("person-dependent.blocked", "published, within a person, blocked in time")
INDEPENDENT = Kind("person-independent.folds", "published, across people, three folds")

_RARE = "no action unit is positive often enough: in 2 to 98 % of the frames"


def probe(subject: Subject) -> list[Measure]:
    """Take the probe score within a person, blocked in time, and across people."""
    scores = within(subject.recordings(is_tested_only=True), subject.threads)
    rare = f"{_RARE} of a block and of those that train for it, in anybody; longer or livelier recordings are needed"
    inside = of_scores(WITHIN, scores, subject.units, trouble=rare)
    people = people_in(subject.clips)
    if len(people) < 2:
        return [inside, without(ACROSS, "needs 2 people or more, there is 1")]
    everybody = subject.recordings(is_tested_only=False)
    scores = across_people(everybody, subject.model.components, subject.tested, subject.threads)
    return [inside, of_scores(ACROSS, scores, subject.units, trouble=f"{_RARE} of anybody tested and in training")]


def person_dependent(subject: Subject) -> list[Measure]:
    """Take the published figure within a person, whose split is random, and the same one blocked in time."""
    from psm_adapt.evaluate.published import Split
    from psm_adapt.evaluate.published import person_dependent as probed  # brings torch

    frequent = [coded.is_frequent for coded in subject.labelled.recordings if coded.clip.person in subject.tested]
    measures = []
    for kind in (RANDOM, BLOCKED):
        split = Split(kind is BLOCKED, subject.model.components)
        done = probed(subject.recordings(is_tested_only=True), frequent, split)
        details: dict[str, JsonValue] = {
            "too_short": done.too_short,
            "pairs": int(np.count_nonzero(~np.isnan(done.scores.f1))),
            "mean_of_pairs": number(done.scores.mean_of_pairs()),
            "bootstraps": _spread(done.bootstraps),
        }
        rare = "no action unit is positive in 2 % of a person's frames, in anybody"
        measures.append(of_scores(kind, done.scores, subject.units, details, rare))
    return measures


def person_independent(subject: Subject) -> list[Measure]:
    """Take the published figure across people: the mean over three folds. By person it is for tests."""
    from psm_adapt.evaluate.published import FOLDS, published_units
    from psm_adapt.evaluate.published import person_independent as probed

    people = people_in(subject.clips)
    if len(people) < FOLDS:
        return [
            without(
                INDEPENDENT, f"needs {FOLDS} people or more, there {'is' if len(people) == 1 else 'are'} {len(people)}"
            )
        ]
    columns = published_units(subject.units)
    units = tuple(subject.units[column] for column in columns)
    done = probed(subject.recordings(is_tested_only=False, columns=columns), subject.model.components)
    folds = mean_of_known(done.folds, axis=1)
    details: dict[str, JsonValue] = {
        "folds": [
            {"people": list(names), "f1": number(value)} for names, value in zip(done.tested, folds, strict=True)
        ],
        "mean_of_people": number(done.scores.mean()),
        "bootstraps": _spread(done.bootstraps),
    }
    measure = of_scores(INDEPENDENT, done.scores, units, details)
    value = float(mean_of_known(folds))
    trouble = "no test fold has an action unit that is positive in any frame" if np.isnan(value) else ""
    return [replace(measure, value=value, by_unit=known(units, mean_of_known(done.folds)), trouble=trouble)]


def _spread(bootstraps: Array) -> JsonValue:
    """Say where the bootstraps' means lie. They are no sample of people: nothing is tested over them."""
    there = bootstraps[~np.isnan(bootstraps)]
    if not len(there):
        return {"count": 0}
    low, high = np.quantile(there, (0.025, 0.975))
    return {"count": len(there), "mean": float(there.mean()), "low": float(low), "high": float(high)}
