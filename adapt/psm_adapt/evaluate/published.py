"""The published protocols: a probe within a person at random, and across people by identity; and the honest split.

Person-dependent: one random 80/20 split of each person's frames. `blocked` instead tests five contiguous blocks in
turn, a second left out at the seams, and pools what was said of each frame: the same probe, the same frames, action
units and people, so that the difference is what a random split flatters by.

Person-independent: three folds by identity.

Source: PSM (Tazi, Berger, Freiwald), and Temporal Consistency (Lu, Tavabi, Soleymani, BMVC 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from psm_adapt.evaluate.linear import said_by_linear
from psm_adapt.evaluate.probe import BLOCKS, SEAM_S, Features, Half, Recording, people_of
from psm_adapt.evaluate.scores import Array, Labels, Scores, bootstrapped_f1, f1_of_units, mean_of_known
from psm_adapt.evaluate.splits import Fold, counting, identity_folds, random_fifth, time_blocks

DRAWS = 100
"""Bootstraps of each test fold."""
FOLDS = 3
INDEPENDENT_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU9", "AU12", "AU25", "AU26")
"""The action units that are published across people."""
_FRAMES_FOR_COMPONENTS = 2000


@dataclass(frozen=True, slots=True)
class Dependent:
    """Figures within people. bootstraps: [P, 100], mean over the action units, by draws of a person's test frames.

    too_short: how many recordings were left out.
    """

    scores: Scores
    bootstraps: Array
    too_short: int


@dataclass(frozen=True, slots=True)
class Independent:
    """Figures across people.

    scores: by person, for tests over people. folds: F1 of each test fold and action unit, [3, A]. tested: who was in
    which fold. bootstraps: [3, 100], mean over the action units, by draws of a fold's test frames.
    """

    scores: Scores
    folds: Array
    tested: tuple[tuple[str, ...], ...]
    bootstraps: Array


@dataclass(frozen=True, slots=True)
class Split:
    """How one person's frames are split. blocked: in time, not at random.

    components: features are reduced to so many principal components of the training frames; None leaves them.
    """

    blocked: bool
    components: int | None = None


def person_dependent(recordings: Sequence[Recording], is_frequent: Sequence[Labels], split: Split) -> Dependent:
    """Probe each person within themselves.

    is_frequent: bool [A] for each recording, the 2 % rule over its full labels; of several recordings of a person, an
    action unit counts when it does in one. A recording of a few seconds, which cannot be blocked, has no part in either
    split.
    """
    people = people_of(recordings)
    nothing = np.zeros((1, recordings[0].labels.shape[1]), np.bool_)
    f1, bootstraps = [], []
    for person in people:
        own = [n for n, one in enumerate(recordings) if one.person == person and _is_long_enough(one)]
        truth, said = _within([recordings[n] for n in own], split) if own else (nothing, nothing)
        counts = np.any([is_frequent[n] for n in own], axis=0) & truth.any(axis=0)
        f1.append(np.where(counts, f1_of_units(truth, said), np.nan))
        bootstraps.append(_bootstraps(truth, said, counts))
    too_short = sum(not _is_long_enough(recording) for recording in recordings)
    return Dependent(Scores(people, np.stack(f1)), np.stack(bootstraps), too_short)


def person_independent(recordings: Sequence[Recording], components: int | None = None) -> Independent:
    """Probe people by a classifier of others, in three folds by identity.

    An action unit counts in a fold when its test frames have it, and in a person, for tests over people, when it is
    positive in 2 to 98 % of the frames. components: as in `Split`. Raises AdaptationError: fewer than three people.
    """
    people = people_of(recordings)
    tested = identity_folds(people, FOLDS)
    by_person: dict[str, Array] = {}
    folds, bootstraps = [], []
    for names in tested:
        train = [recording for recording in recordings if recording.person not in names]
        test = [recording for recording in recordings if recording.person in names]
        truth = np.concatenate([recording.labels for recording in test])
        said = _said(_half(train), _half(test), components)
        counts = truth.any(axis=0)
        folds.append(np.where(counts, f1_of_units(truth, said), np.nan))
        bootstraps.append(_bootstraps(truth, said, counts))
        whose = np.repeat([recording.person for recording in test], [len(recording.labels) for recording in test])
        for name in names:
            own = whose == name
            by_person[name] = np.where(counting(truth[own]), f1_of_units(truth[own], said[own]), np.nan)
    scores = Scores(people, np.stack([by_person[person] for person in people]))
    return Independent(scores, np.stack(folds), tuple(tested), np.stack(bootstraps))


def published_units(units: Sequence[str]) -> list[int]:
    """Positions of the action units that are published across people; of all of them if there are not two of these."""
    found = [units.index(name) for name in INDEPENDENT_UNITS if name in units]
    return found if len(found) > 1 else list(range(len(units)))


def _within(recordings: Sequence[Recording], split: Split) -> tuple[Labels, Labels]:
    """Return the labels of one person's test frames, and what the probe said of them."""
    truth, said = [], []
    for recording in recordings:
        features, labels = recording.features, recording.labels
        for train, test in _folds(recording, split):
            train_half, test_half = (features[train], labels[train]), (features[test], labels[test])
            said.append(_said(train_half, test_half, split.components))
            truth.append(labels[test])
    return np.concatenate(truth), np.concatenate(said)


def _is_long_enough(recording: Recording) -> bool:
    if len(recording.t_s) < BLOCKS:
        return False
    return all(len(train) > 1 for train, _ in time_blocks(recording.t_s, BLOCKS, SEAM_S))


def _folds(recording: Recording, split: Split) -> list[Fold]:
    if split.blocked:
        return time_blocks(recording.t_s, BLOCKS, SEAM_S)
    return [random_fifth(recording.labels, np.random.default_rng(0))]


def _half(recordings: Sequence[Recording]) -> Half:
    features = np.concatenate([recording.features for recording in recordings])
    return features, np.concatenate([recording.labels for recording in recordings])


def _said(train: Half, test: Half, components: int | None) -> Labels:
    if components is not None:
        of_train, of_test = _components(train[0], test[0], components)
        train, test = (of_train, train[1]), (of_test, test[1])
    return said_by_linear(train, test)


def _components(train: Features, test: Features, components: int) -> tuple[Features, Features]:
    """Principal components of 2,000 training frames at most, evenly spaced: whole videos of pixels are too large."""
    some = train[:: -(-len(train) // _FRAMES_FOR_COMPONENTS)].astype(np.float32)
    reduction = PCA(min(components, *some.shape), svd_solver="randomized", random_state=0).fit(some)
    of_train, of_test = (
        np.concatenate([reduction.transform(rows.astype(np.float32)) for rows in _pieces(features)])
        for features in (train, test)
    )
    return of_train, of_test


def _pieces(features: Features) -> list[Features]:
    return [
        features[start : start + _FRAMES_FOR_COMPONENTS] for start in range(0, len(features), _FRAMES_FOR_COMPONENTS)
    ]


def _bootstraps(truth: Labels, said: Labels, counts: Labels) -> Array:
    """Mean F1 over the action units that count, for each of 100 draws of the test frames."""
    f1 = bootstrapped_f1(truth, said, DRAWS, np.random.default_rng(0))
    return mean_of_known(np.where(counts, f1, np.nan), axis=1)
