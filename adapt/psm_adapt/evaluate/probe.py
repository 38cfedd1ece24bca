"""The probe: how well a linear classifier reads action units off features, within a person and across people.

Features are standardised with the training mean and deviation (what BatchNorm does in the published probes), then comes
a balanced logistic regression with C = 0.01. Everything is a pure function over arrays, and the same numbers come out
however many threads compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from psm_adapt.evaluate.splits import counting, time_blocks

REGULARISATION_C = 0.01
BLOCKS = 5
SEAM_S = 1.0
FRAMES_PER_RECORDING = 400
PIXEL_COMPONENTS = 64

Array: TypeAlias = NDArray[np.float64]
Features: TypeAlias = NDArray[np.floating[Any]]
Labels: TypeAlias = NDArray[np.bool_]
Half: TypeAlias = tuple[Features, Labels]

_Fold = TypeVar("_Fold")
_MOST_ITERATIONS = 2000
_NOISE = 1e-12


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of one person, its frames in order of time.

    features: [N, D]. labels: bool [N, A]. t_s: [N] s, source time.
    """

    person: str
    features: Features
    labels: Labels
    t_s: Array


@dataclass(frozen=True, slots=True)
class Scores:
    """F1 of each person and action unit. people: P names. f1: [P, A], NaN where an action unit does not count."""

    people: tuple[str, ...]
    f1: Array

    def by_person(self) -> Array:
        """Mean over the action units that count, [P]; NaN for a person in whom none does."""
        return _mean(self.f1, axis=1)

    def by_unit(self) -> Array:
        """Mean over the people in whom it counts, [A]; NaN for an action unit that counts in nobody."""
        return _mean(self.f1, axis=0)

    def mean(self) -> float:
        """Mean over action units, then over people; NaN when nothing counts."""
        return float(_mean(self.by_person(), axis=0))


def within_person(features: Features, labels: Labels, t_s: Array, threads: int = 1) -> Array:
    """Probe one recording within itself, blocked in time.

    Five contiguous blocks are each tested once; training frames within a second of the tested block are left out.
    features: [N, D]. labels: bool [N, A]. t_s: [N] s, increasing.
    Returns F1 [A], the mean over the blocks in which the action unit is positive in 2 to 98 % of the frames both in
    training and in the test; NaN where there is no such block.
    """
    return _mean(_blocked(Recording("", features, labels, t_s), threads), axis=0)


def within(recordings: Sequence[Recording], threads: int = 1) -> Scores:
    """Probe each person within each of their recordings; see `within_person`. All of a person's blocks count alike."""
    people = tuple(dict.fromkeys(recording.person for recording in recordings))
    blocks = {person: [_blocked(one, threads) for one in recordings if one.person == person] for person in people}
    return Scores(people, np.stack([_mean(np.concatenate(blocks[person]), axis=0) for person in people]))


def across_people(
    recordings: Sequence[Recording],
    components: int | None = None,
    tested: Sequence[str] | None = None,
    threads: int = 1,
) -> Scores:
    """Probe each person with a classifier of all the others: leave one person out.

    400 frames of each recording take part, drawn by seed 0 (all of a shorter one). An action unit counts in a person
    when 2 to 98 % of the test frames are positive, and somebody in training has it, too.
    components: reduce the features to that many principal components of the training people (64 for raw pixels).
    tested: the people to leave out in turn, all of them by default; the others are for training alone.
    """
    drawn = [_drawn(recording) for recording in recordings]
    people = tuple(dict.fromkeys(recording.person for recording in drawn))
    tested = people if tested is None else tuple(person for person in people if person in tested)

    def score(person: str) -> Array:
        training = [recording for recording in drawn if recording.person != person]
        test = [recording for recording in drawn if recording.person == person]
        train_x, test_x = _pooled(training), _pooled(test)
        train_y, test_y = (np.concatenate([one.labels for one in some]) for some in (training, test))
        if components is not None:
            train_x, test_x = _reduced(train_x, test_x, components)
        return probe_f1((train_x, train_y), (test_x, test_y), counting(test_y) & _both_classes(train_y))

    return Scores(tested, np.stack(_each(score, tested, threads)))


def probe_f1(
    train: Half,
    test: Half,
    units: Labels,
) -> Array:
    """F1 on the test frames of a classifier per action unit, [A]; NaN where `units`, bool [A], is False.

    train, test: features [N, D] and labels bool [N, A].
    """
    scores = np.full(len(units), np.nan)
    if units.any():
        train_x, test_x = rotated(*standardised(train[0], test[0]))
        for unit in np.flatnonzero(units):
            classifier = LogisticRegression(C=REGULARISATION_C, class_weight="balanced", max_iter=_MOST_ITERATIONS)
            classifier.fit(train_x, train[1][:, unit])
            scores[unit] = f1(test[1][:, unit], classifier.predict(test_x))
    return scores


def standardised(train: Features, test: Features) -> tuple[Array, Array]:
    """Both with the mean and the deviation of the training frames; a constant column becomes 0 in training."""
    scaler = StandardScaler().fit(train.astype(np.float64))
    return scaler.transform(train.astype(np.float64)), scaler.transform(test.astype(np.float64))


def rotated(train: Array, test: Array) -> tuple[Array, Array]:
    """Both in coordinates along the training frames, when there are fewer frames than features (raw pixels).

    A classifier with an L2 penalty has its weights in the span of the training frames, so it comes out the same, and
    fits several times faster. train: [N, D] and test: [M, D] become [N, R] and [M, R] with R <= N.
    """
    if train.shape[1] <= 2 * len(train):
        return train, test
    squares, axes = np.linalg.eigh(train @ train.T)
    kept = squares > _NOISE * squares[-1]
    axes = axes[:, kept] / np.sqrt(squares[kept])
    return train @ (train.T @ axes), test @ (train.T @ axes)


def f1(truth: Labels, said: Labels) -> float:
    """F1 of the positive class: 2 hits / (2 hits + false alarms + misses); 0 where nothing is positive."""
    hits = np.count_nonzero(truth & said)
    wrong = np.count_nonzero(truth ^ said)
    return float(2 * hits / (2 * hits + wrong)) if hits else 0.0


def _blocked(recording: Recording, threads: int) -> Array:
    """F1 of each block and action unit, [5, A]; NaN where it does not count."""
    features, labels = recording.features, recording.labels

    def score(fold: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Array:
        train, test = fold
        units = counting(labels[train]) & counting(labels[test])
        return probe_f1((features[train], labels[train]), (features[test], labels[test]), units)

    return np.stack(_each(score, time_blocks(recording.t_s, BLOCKS, SEAM_S), threads))


def _drawn(recording: Recording) -> Recording:
    """400 frames of a recording. They depend on nothing but its length, so that the other recordings do not matter."""
    count = len(recording.t_s)
    if count <= FRAMES_PER_RECORDING:
        return recording
    some = np.sort(np.random.default_rng(0).choice(count, FRAMES_PER_RECORDING, replace=False))
    return Recording(recording.person, recording.features[some], recording.labels[some], recording.t_s[some])


def _pooled(recordings: Iterable[Recording]) -> Features:
    return np.concatenate([recording.features for recording in recordings])


def _reduced(train: Features, test: Features, components: int) -> tuple[Features, Features]:
    reduction = PCA(min(components, *train.shape), svd_solver="randomized", random_state=0).fit(train)
    return reduction.transform(train), reduction.transform(test)


def _both_classes(labels: Labels) -> Labels:
    some: Labels = labels.any(axis=0) & ~labels.all(axis=0)
    return some


def _each(score: Callable[[_Fold], Array], folds: Iterable[_Fold], threads: int) -> list[Array]:
    """Score every fold, in order. One BLAS thread each: several would fight over the cores and sum in another order."""
    with _one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(score, folds))


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    with threadpool_limits(limits=1):
        yield


def _mean(values: Array, axis: int) -> Array:
    """Mean of what is not NaN; NaN where there is nothing, without NumPy's warning."""
    there = ~np.isnan(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
