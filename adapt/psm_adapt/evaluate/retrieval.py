"""Retrieval: the frames of other people whose features point most nearly where a frame's do, and what they show.

Source: Temporal Consistency (Lu, Tavabi, Soleymani, BMVC 2020), cosine similarity, the five nearest. What differs: the
agreement of the labels is counted, and next to it what frames drawn blindly would give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_adapt.evaluate.probe import Features
from psm_adapt.evaluate.scores import Array, Labels, Scores
from psm_adapt.evaluate.splits import counting

NEAREST = 5


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the frames retrieved show what the query shows.

    scores: [P, A], of the queries of a person that show an action unit, the share of retrieved frames that show it,
    too; NaN where it is positive in less than 2 % or more than 98 % of the person's frames. chance: [P, A], its share
    among other people's frames.
    """

    scores: Scores
    chance: Array


def nearest_frames(features: Features, whose: NDArray[np.intp], count: int = NEAREST) -> NDArray[np.intp]:
    """Find the frames of other people with the largest cosine similarity, the nearest first.

    features: [N, D]. whose: [N], a number for each person. Returns positions [N, count]; -1 where there are no more.
    """
    length = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    unit = (features / np.where(length > 0, length, 1)).astype(np.float32)
    found = np.full((len(unit), count), -1, np.intp)
    for person in np.unique(whose):
        others = np.flatnonzero(whose != person)
        own = np.flatnonzero(whose == person)
        # a stable order, so that equal frames come out the same everywhere
        nearest = np.argsort(-(unit[own] @ unit[others].T), axis=1, kind="stable")[:, :count]
        found[own, : nearest.shape[1]] = others[nearest]
    return found


def agreement(found: NDArray[np.intp], labels: Labels, whose: NDArray[np.intp], people: tuple[str, ...]) -> Agreement:
    """Count how well the labels of frames retrieved agree with those of their queries.

    found: [N, k] from `nearest_frames`. labels: bool [N, A]. whose: [N], position in `people`.
    """
    shape = (len(people), labels.shape[1])
    scores, chance = np.full(shape, np.nan), np.full(shape, np.nan)
    for person in range(len(people)):
        own = whose == person
        for unit in np.flatnonzero(counting(labels[own])):
            retrieved = found[own & labels[:, unit]]
            retrieved = retrieved[retrieved >= 0]
            if len(retrieved):
                scores[person, unit] = labels[retrieved, unit].mean()
                chance[person, unit] = labels[~own, unit].mean()
    return Agreement(Scores(people, scores), chance)


def queries_for_sheet(labels: Labels, whose: NDArray[np.intp], most: int = 8) -> NDArray[np.intp]:
    """Choose a frame of each person for people to look at: the first of those that show the most action units.

    labels: bool [N, A]. whose: [N], a number for each person; frames with -1 are not chosen. Returns positions.
    """
    people = [person for person in np.unique(whose) if person >= 0][:most]
    return np.array([_most_expressive(labels, np.flatnonzero(whose == person)) for person in people], np.intp)


def _most_expressive(labels: Labels, own: NDArray[np.intp]) -> int:
    return int(own[labels[own].sum(axis=1).argmax()])
