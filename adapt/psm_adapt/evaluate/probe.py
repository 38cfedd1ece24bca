"""The probe: how well a linear classifier reads action units off features, within a person and across people.

Features are standardised with the training mean and deviation (what BatchNorm does in the published probes), then comes
a balanced logistic regression with C = 0.01. Everything is a pure function over arrays, and the same numbers come out
however many threads compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from psm_adapt.evaluate.scores import Array, Labels, Scores, f1_of_units, mean_of_known
from psm_adapt.evaluate.splits import Fold, counting, time_blocks

REGULARISATION_C = 0.01
BLOCKS = 5
SEAM_S = 1.0
FRAMES_PER_RECORDING = 400
PIXEL_COMPONENTS = 64

Features: TypeAlias = NDArray[np.number[Any]]
Half: TypeAlias = tuple[Features, Labels]

_Given = TypeVar("_Given")
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


def within_person(features: Features, labels: Labels, t_s: Array, threads: int = 1) -> Array:
    """Probe one recording within itself, blocked in time.

    Five contiguous blocks are each tested once; training frames within a second of the tested block are left out.
    features: [N, D]. labels: bool [N, A]. t_s: [N] s, increasing.
    Returns F1 [A], the mean over the blocks in which the action unit is positive in 2 to 98 % of the frames both in
    training and in the test; NaN where there is no such block, as in a recording of a few seconds.
    """
    return mean_of_known(_blocked(Recording("", features, labels, t_s), threads))


def within(recordings: Sequence[Recording], threads: int = 1) -> Scores:
    """Probe each person within each of their recordings; see `within_person`. All of a person's blocks count alike."""
    people = people_of(recordings)
    blocks = {person: [_blocked(one, threads) for one in recordings if one.person == person] for person in people}
    return Scores(people, np.stack([mean_of_known(np.concatenate(blocks[person])) for person in people]))


def across_people(
    recordings: Sequence[Recording],
    components: int | None = None,
    tested: Sequence[str] | None = None,
    threads: int = 1,
) -> Scores:
    """Probe each person with a classifier of all the others: leave one person out.

    400 frames of each recording take part, drawn by seed 0 (all of a shorter one). An action unit counts in a person
    when 2 to 98 % of the test frames are positive, and training has both positive and negative frames.
    components: reduce the features to that many principal components of the training people (64 for raw pixels).
    tested: the people to leave out in turn, all of them by default; the others are for training alone.
    """
    drawn = [_drawn(recording) for recording in recordings]
    people = tuple(person for person in people_of(recordings) if tested is None or person in tested)

    def score(person: str) -> Array:
        training = [recording for recording in drawn if recording.person != person]
        test = [recording for recording in drawn if recording.person == person]
        train_x, test_x = (np.concatenate([one.features for one in some]) for some in (training, test))
        train_y, test_y = (np.concatenate([one.labels for one in some]) for some in (training, test))
        units = counting(test_y) & train_y.any(axis=0) & ~train_y.all(axis=0)
        if components is not None:
            train_x, test_x = reduced(train_x, test_x, components)
        return probe_f1((train_x, train_y), (test_x, test_y), units)

    return Scores(people, np.stack(_each(score, people, threads)))


def people_of(recordings: Iterable[Recording]) -> tuple[str, ...]:
    """Everybody, in order of first appearance."""
    return tuple(dict.fromkeys(recording.person for recording in recordings))


def probe_f1(train: Half, test: Half, units: Labels) -> Array:
    """F1 on the test frames of a classifier per action unit, [A]; NaN where `units`, bool [A], is False.

    train, test: features [N, D] and labels bool [N, A].
    """
    scores = np.full(len(units), np.nan)
    if not units.any():
        return scores
    train_x, test_x = rotated(*standardised(train[0], test[0]))
    said = np.zeros(test[1].shape, np.bool_)
    for unit in np.flatnonzero(units):
        classifier = LogisticRegression(C=REGULARISATION_C, class_weight="balanced", max_iter=_MOST_ITERATIONS)
        said[:, unit] = classifier.fit(train_x, train[1][:, unit]).predict(test_x)
    return np.where(units, f1_of_units(test[1], said), np.nan)


def standardised(train: Features, test: Features) -> tuple[Array, Array]:
    """Both with the mean and the deviation of the training frames; a constant column becomes 0 in training."""
    scaler = StandardScaler().fit(train.astype(np.float64))
    return scaler.transform(train.astype(np.float64)), scaler.transform(test.astype(np.float64))


def rotated(train: Array, test: Array) -> tuple[Array, Array]:
    """Both in coordinates along the training frames, when there are far fewer frames than features (raw pixels).

    A classifier with an L2 penalty has its weights in the span of the training frames, so it comes out the same, and
    fits several times faster. train: [N, D] and test: [M, D] become [N, R] and [M, R] with R <= N.
    """
    if train.shape[1] <= 2 * len(train):
        return train, test
    squares, axes = np.linalg.eigh(train @ train.T)
    is_kept = squares > _NOISE * squares[-1]
    axes = axes[:, is_kept] / np.sqrt(squares[is_kept])
    directions = train.T @ axes
    return train @ directions, test @ directions


def reduced(train: Features, test: Features, components: int) -> tuple[Features, Features]:
    """Both as the first principal components of the training frames; which ones are random is seeded."""
    train, test = train.astype(np.float32), test.astype(np.float32)
    reduction = PCA(min(components, *train.shape), svd_solver="randomized", random_state=0).fit(train)
    return reduction.transform(train), reduction.transform(test)


def _blocked(recording: Recording, threads: int) -> Array:
    """F1 of each block and action unit, [5, A]; NaN where it does not count."""
    features, labels = recording.features, recording.labels
    if len(labels) < BLOCKS:
        return np.full((1, labels.shape[1]), np.nan)

    def score(fold: Fold) -> Array:
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


def _each(score: Callable[[_Given], Array], given: Iterable[_Given], threads: int) -> list[Array]:
    """Score each, in order. One BLAS thread each: several would fight over the cores and sum in another order."""
    with threadpool_limits(limits=1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(score, given))
