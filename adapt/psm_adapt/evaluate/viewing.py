"""Measures without a classifier: neutral faces, noise, retrieval, and order in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from psm_adapt.evaluate.clips import Clip, people_in
from psm_adapt.evaluate.measures import Kind, Measure, number, of_people, of_scores, without
from psm_adapt.evaluate.ranking import SAMPLES, SPACING, anchors_of, ranking_accuracy
from psm_adapt.evaluate.retrieval import NEAREST, agreement, nearest_frames, queries_for_sheet
from psm_adapt.evaluate.scores import mean_of_known
from psm_adapt.evaluate.sheet import Tile, retrieval_sheet
from psm_adapt.evaluate.subject import Subject

NEUTRAL = Kind("neutral.distance", "distance between neutral faces of a person", is_error=True)
NOISE = Kind("noise.distance", "distance between neutral faces of noise images")
RETRIEVAL = Kind("retrieval.top5", "retrieval, five nearest of other people")
RANKING = Kind("ranking.accuracy", "order in time")

NEUTRAL_FRAMES = 100
"""At most so many of a person, evenly spaced."""
RETRIEVAL_FRAMES = 400
"""At most so many of a recording, evenly spaced."""

_ENCODER_ALONE = "an encoder alone draws no faces; give a checkpoint"


def neutral(subject: Subject) -> list[Measure]:
    """Measure how alike the neutral faces of each person are."""
    if subject.model.networks is None:
        return [without(NEUTRAL, _ENCODER_ALONE)]
    from psm_adapt.evaluate.neutral import neutral_distance  # brings torch

    networks = subject.model.networks()
    by_person, inputs = {}, {}
    for person in subject.tested:
        crops = _some_crops([clip for clip in subject.clips if clip.person == person], NEUTRAL_FRAMES)
        if len(crops) > 1:
            distances = neutral_distance(networks, crops)
            by_person[person], inputs[person] = distances.of_neutrals, distances.of_inputs
    details: dict[str, JsonValue] = {"of_inputs": dict(inputs), "frames": NEUTRAL_FRAMES}
    return [of_people(NEUTRAL, by_person, details, "needs two frames of a person")]


def noise(subject: Subject) -> list[Measure]:
    """Measure how far apart the neutral faces of images of noise are: near 0, the model draws one face of anything."""
    if subject.model.networks is None:
        return [without(NOISE, _ENCODER_ALONE)]
    from psm_adapt.evaluate.neutral import NOISE_IMAGES, noise_check

    distances = noise_check(subject.model.networks())
    details: dict[str, JsonValue] = {"of_inputs": distances.of_inputs, "images": NOISE_IMAGES}
    return [Measure(NOISE, distances.of_neutrals, details=details)]


def retrieval(subject: Subject) -> list[Measure]:
    """Measure how often the nearest frames of other people show what the query shows."""
    people = people_in(subject.clips)
    if len(people) < 2:
        return [without(RETRIEVAL, "needs 2 people or more, there is 1")]
    drawn = [_evenly(len(clip), RETRIEVAL_FRAMES) for clip in subject.clips]
    features = np.concatenate([rows[some] for rows, some in zip(subject.features, drawn, strict=True)])
    labels = np.concatenate(
        [coded.labels[some] for coded, some in zip(subject.labelled.recordings, drawn, strict=True)]
    )
    whose = np.concatenate(
        [np.full(len(some), people.index(clip.person)) for clip, some in zip(subject.clips, drawn, strict=True)]
    )
    found = nearest_frames(features, whose)
    agreed = agreement(found, labels, whose, people)
    is_tested = np.array([person in subject.tested for person in people])
    scores = replace(agreed.scores, f1=np.where(is_tested[:, None], agreed.scores.f1, np.nan))
    by_chance = mean_of_known(mean_of_known(np.where(np.isnan(scores.f1), np.nan, agreed.chance), axis=1))
    details: dict[str, JsonValue] = {"by_chance": number(float(by_chance)), "nearest": NEAREST}
    rare = "no action unit is positive in 2 to 98 % of the frames of anybody"
    measure = of_scores(RETRIEVAL, scores, subject.units, details, rare)
    queries = queries_for_sheet(labels, np.where(is_tested[whose], whose, -1))
    frames = [clip.only(some) for clip, some in zip(subject.clips, drawn, strict=True)]
    rows = [[_tile(frames, subject.units, labels, int(n)) for n in (query, *found[query])] for query in queries]
    return [replace(measure, picture=retrieval_sheet(rows))]


def ranking(subject: Subject) -> list[Measure]:
    """Measure how often a frame farther away in time is also farther away in the features."""
    by_person: dict[str, list[float]] = {}
    for clip, features in zip(subject.clips, subject.features, strict=True):
        anchors = anchors_of(clip)
        if len(anchors) and clip.person in subject.tested:
            by_person.setdefault(clip.person, []).append(ranking_accuracy(features, anchors))
    means = {person: float(np.mean(values)) for person, values in by_person.items()}
    details: dict[str, JsonValue] = {"spacing": SPACING, "samples": SAMPLES, "by_chance": 0.5}
    return [of_people(RANKING, means, details, f"needs {2 + SPACING * SAMPLES} frames in a row")]


def _evenly(count: int, most: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def _some_crops(clips: list[Clip], most: int) -> NDArray[np.uint8]:
    """Return crops of a person from all recordings, evenly spaced: [n, 128, 128, 3] uint8 RGB."""
    where = [(clip, row) for clip in clips for row in clip.rows]
    return np.stack([where[n][0].store.crops[where[n][1]] for n in _evenly(len(where), most)])


def _tile(frames: list[Clip], units: tuple[str, ...], labels: NDArray[np.bool_], n: int) -> Tile:
    """Return the crop and the action units of a frame, counted through all clips; a grey one for -1."""
    if n < 0:
        return Tile(np.full((128, 128, 3), 128, np.uint8), "")
    shown = " ".join(unit.removeprefix("AU") for unit, is_on in zip(units, labels[n], strict=True) if is_on)
    for clip in frames:
        if n < len(clip):
            return Tile(np.asarray(clip.store.crops[clip.rows[n]]), shown or "none")
        n -= len(clip)
    raise IndexError(n)
