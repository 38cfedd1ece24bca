"""An evaluation: every protocol on every model, and the models compared in pairs over people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from psm_adapt.evaluate.clips import Clip, people_in
from psm_adapt.evaluate.compare import Comparison, compare, holm
from psm_adapt.evaluate.features import Model
from psm_adapt.evaluate.labels import Coding
from psm_adapt.evaluate.measures import Kind, Measure
from psm_adapt.evaluate.protocols import PROTOCOLS
from psm_adapt.evaluate.subject import Subject
from psm_stream.errors import AdaptationError


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. clips: all frames. coding: their labels, or None. protocols: keys of PROTOCOLS, in this order.

    tested: the people whose results count; the others' frames only train probes across people. threads: how many may
    compute; they do not change the results.
    """

    models: tuple[Model, ...]
    clips: tuple[Clip, ...]
    coding: Coding | None
    protocols: tuple[str, ...]
    tested: tuple[str, ...]
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models compared by one measure: the first minus the second. p_holm: of Wilcoxon's p, for all the pairs."""

    kind: Kind
    first: str
    second: str
    result: Comparison
    p_holm: float = math.nan


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out. measures: by model, in the order of the plan; the same kinds for each."""

    plan: Plan
    dimensions: tuple[int, ...]
    measures: tuple[tuple[Measure, ...], ...]
    comparisons: tuple[Paired, ...]


class Watcher(Protocol):
    """Whom an evaluation tells how it goes."""

    def begin(self, what: str, total: int | None) -> None:
        """Called before each part. total: frames that it will go through, None if it does not count."""

    def advance(self, frames: int) -> None:
        """Called with how many more frames are done."""


class NoWatcher:
    """Watches nothing."""

    def begin(self, what: str, total: int | None) -> None:
        """Do nothing."""

    def advance(self, frames: int) -> None:
        """Do nothing."""


def evaluate(plan: Plan, watcher: Watcher | None = None) -> Evaluation:
    """Do what a plan says.

    Raises AdaptationError: a protocol lacks labels, nothing at all could be measured, or a recording has no features.
    """
    watcher = watcher or NoWatcher()
    unlabelled = [name for name in plan.protocols if PROTOCOLS[name].needs_labels]
    if plan.coding is None and unlabelled:
        raise AdaptationError(f"protocol {unlabelled[0]} needs labels; give --labels FILE, DIR or blendshapes")
    measures, dimensions = [], []
    for model in plan.models:
        subject = _subject(plan, model, watcher)
        dimensions.append(subject.features[0].shape[1] if subject.features else 0)
        measures.append(tuple(_measured(subject, plan.protocols, watcher)))
    if all(math.isnan(measure.value) for of_model in measures for measure in of_model):
        first = measures[0][0]
        raise AdaptationError(f"nothing could be measured: {first.kind.title}: {first.trouble}")
    return Evaluation(plan, tuple(dimensions), tuple(measures), tuple(_compared(plan.models, measures)))


def _subject(plan: Plan, model: Model, watcher: Watcher) -> Subject:
    clips = plan.clips if plan.coding is None else tuple(coded.clip for coded in plan.coding.recordings)
    features: tuple[NDArray[Any], ...] = ()
    if any(PROTOCOLS[name].needs_features for name in plan.protocols):
        watcher.begin(f"{model.name}: features", sum(map(len, clips)))
        features = tuple(_features(model, clip, watcher) for clip in clips)
    tested = tuple(person for person in people_in(clips) if person in plan.tested)
    return Subject(model, clips, features, plan.coding, tested, plan.threads)


def _features(model: Model, clip: Clip, watcher: Watcher) -> NDArray[Any]:
    features = model.of(clip, watcher.advance)
    if not np.isfinite(features).all():
        raise AdaptationError(f"model {model.name}: its features of recording {clip.name!r} are not all finite")
    return features


def _measured(subject: Subject, protocols: Sequence[str], watcher: Watcher) -> Iterator[Measure]:
    for name in protocols:
        watcher.begin(f"{subject.model.name}: {name}", None)
        yield from PROTOCOLS[name].measure(subject)


def _compared(models: Sequence[Model], measures: Sequence[Sequence[Measure]]) -> Iterator[Paired]:
    """Compare each two models by each measure that is known of two people or more in both."""
    for of_kind in zip(*measures, strict=True):
        pairs = [
            Paired(first.kind, models[a].name, models[b].name, _over_people(first, second))
            for (a, first), (b, second) in combinations(enumerate(of_kind), 2)
            if len(first.by_person.keys() & second.by_person.keys()) > 1
        ]
        adjusted = holm([pair.result.p_wilcoxon for pair in pairs])
        yield from (replace(pair, p_holm=p) for pair, p in zip(pairs, adjusted, strict=True))


def _over_people(first: Measure, second: Measure) -> Comparison:
    people = sorted(first.by_person.keys() & second.by_person.keys())
    one, other = (np.array([measure.by_person[person] for person in people]) for measure in (first, second))
    return compare(one, other)
