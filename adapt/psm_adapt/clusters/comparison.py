"""Two models' clusters of the same people: how many there are at every setting, and which are novel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_adapt.clusters.novel import Novelty, novelty
from psm_adapt.clusters.sweep import SCALINGS, Labels, Setting, cluster_count, noise_share, sweep
from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.compare import Comparison, compare
from psm_adapt.evaluate.evaluation import NoWatcher, Watcher
from psm_adapt.evaluate.features import Model
from psm_adapt.evaluate.labels import Coded, Coding
from psm_stream.errors import AdaptationError

FRAMES = 500
"""Of each person, about as many as were published (485)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. models: the first and the second. frames: of each person at most, spread evenly.

    scaling: a key of SCALINGS.
    """

    models: tuple[Model, Model]
    coding: Coding
    settings: tuple[Setting, ...]
    frames: int = FRAMES
    scaling: str = "standard"


@dataclass(frozen=True, slots=True)
class AtSetting:
    """One person at one setting. clusters, noise: of the first and of the second model; noise is a share, 0..1."""

    clusters: tuple[int, int]
    noise: tuple[float, float]
    novelty: Novelty


@dataclass(frozen=True, slots=True)
class PersonResult:
    """One person. labels: bool [n, A] of the frames that were clustered. codes: both models' scaled vectors [n, D]."""

    person: str
    units: NDArray[np.bool_]
    codes: tuple[NDArray[np.float64], NDArray[np.float64]]
    by_setting: Mapping[Setting, AtSetting]
    clusterings: Mapping[Setting, tuple[Labels, Labels]]

    @property
    def frames(self) -> int:
        """How many frames were clustered."""
        return len(self.units)

    def mean_clusters(self) -> tuple[float, float]:
        """Over the settings, of each model."""
        return _means([of.clusters for of in self.by_setting.values()])

    def mean_noise(self) -> tuple[float, float]:
        """Over the settings, of each model, 0..1."""
        return _means([of.noise for of in self.by_setting.values()])

    def mean_novel(self) -> tuple[float, float]:
        """Over the settings, of each model."""
        novel = [(len(of.novelty.novel_first), len(of.novelty.novel_second)) for of in self.by_setting.values()]
        return _means(novel)

    def finest(self) -> Setting:
        """The setting at which even the model with fewer clusters has most; of several, where there are most in all."""
        counts = {setting: at.clusters for setting, at in self.by_setting.items()}
        return max(counts, key=lambda setting: (min(counts[setting]), sum(counts[setting])))


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that came out. Comparisons are the first model minus the second, over people."""

    plan: Plan
    people: tuple[PersonResult, ...]
    clusters: Comparison
    novel: Comparison


def compare_clusters(plan: Plan, watcher: Watcher | None = None) -> Result:
    """Cluster every person's frames by both models, at every setting, and compare.

    Raises AdaptationError: a person has too few labelled frames, or features are not finite.
    """
    watcher = watcher or NoWatcher()
    of_people: dict[str, list[Coded]] = {}
    for coded in plan.coding.recordings:
        of_people.setdefault(coded.clip.person, []).append(coded)
    people = tuple(_person(plan, name, recordings, watcher) for name, recordings in of_people.items())
    return Result(
        plan,
        people,
        _over(people, PersonResult.mean_clusters),
        _over(people, PersonResult.mean_novel),
    )


def evenly(count: int, wanted: int) -> NDArray[np.intp]:
    """Positions of `wanted` of `count` things, spread evenly, ascending; all of them where there are no more."""
    return np.arange(count) if count <= wanted else (np.arange(wanted) * count) // wanted


def _person(plan: Plan, person: str, recordings: Sequence[Coded], watcher: Watcher) -> PersonResult:
    clips, units = _spread(recordings, plan.frames)
    least = max(setting.min_samples for setting in plan.settings)
    if len(units) < least:
        raise AdaptationError(
            f"{person} has {len(units)} labelled frames; {least} are the least for min_samples {least}: leave "
            "the person out, or lower --min-samples"
        )
    first, second = (_codes(plan, model, clips, watcher) for model in plan.models)
    watcher.begin(f"{person}: {len(plan.settings)} settings", None)
    of_first, of_second = sweep(first, plan.settings), sweep(second, plan.settings)
    both = {setting: (of_first[setting], of_second[setting]) for setting in plan.settings}
    by_setting = {setting: _at(*labels, units) for setting, labels in both.items()}
    return PersonResult(person, units, (first, second), by_setting, both)


def _spread(recordings: Sequence[Coded], frames: int) -> tuple[list[Clip], NDArray[np.bool_]]:
    """Choose so many frames of all the recordings of a person, and their labels."""
    units = np.concatenate([coded.labels for coded in recordings])
    chosen = evenly(len(units), frames)
    starts = np.cumsum([0, *(len(coded.clip) for coded in recordings)])
    clips = [
        coded.clip.only(chosen[(chosen >= start) & (chosen < start + len(coded.clip))] - start)
        for coded, start in zip(recordings, starts[:-1], strict=True)
    ]
    return [clip for clip in clips if len(clip)], units[chosen]


def _codes(plan: Plan, model: Model, clips: Sequence[Clip], watcher: Watcher) -> NDArray[np.float64]:
    watcher.begin(f"{clips[0].person}: {model.name}", sum(map(len, clips)))
    codes = np.concatenate([model.of(clip, watcher.advance) for clip in clips])
    if not np.isfinite(codes).all():
        raise AdaptationError(f"model {model.name}: its features of {clips[0].person} are not all finite")
    return SCALINGS[plan.scaling](codes)


def _at(first: Labels, second: Labels, units: NDArray[np.bool_]) -> AtSetting:
    return AtSetting(
        (cluster_count(first), cluster_count(second)),
        (noise_share(first), noise_share(second)),
        novelty(first, second, units),
    )


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    first, second = np.mean(pairs, axis=0)
    return float(first), float(second)


def _over(people: Sequence[PersonResult], figure: Callable[[PersonResult], tuple[float, float]]) -> Comparison:
    first, second = np.array([figure(person) for person in people]).T
    return compare(first, second)
