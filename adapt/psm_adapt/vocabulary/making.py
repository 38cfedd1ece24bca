"""Making a vocabulary of tracks, and training the vectors of its tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_adapt.vocabulary.cooccurrence import WINDOW, cooccurrences
from psm_adapt.vocabulary.glove import GloveSettings, Tell, train_vectors
from psm_adapt.vocabulary.kmeans import fit_centres, nearest
from psm_adapt.vocabulary.tokens import numbered, tokens_of, words_in
from psm_adapt.vocabulary.tracks import RATE_HZ, Track
from psm_stream.clusters.units import UNIT_NAMES, Source
from psm_stream.clusters.vocabulary import SPECIAL, UNKNOWN, Feature, Vocabulary, measuring_of
from psm_stream.errors import AdaptationError

WITHIN = 0.99
"""The limit lies where so many of the faces are within it."""
RARE = 0.1
"""A centre with fewer faces than this share of the mean is <unk>: published, 500 where the mean was 5,293."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a vocabulary is made. limit, min_count: None is by the rules of WITHIN and RARE."""

    size: int
    feature: Feature
    limit: float | None = None
    min_count: int | None = None
    rate_hz: float = RATE_HZ
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit came to. distances: of each face to its centre, [n]. left_out: faces without some unit that counts."""

    vocabulary: Vocabulary
    distances: NDArray[np.float64]
    left_out: int


def make_vocabulary(tracks: Sequence[Track], source: Source, model_id: str, settings: FitSettings) -> Fitted:
    """Cluster the faces of some tracks. Centres are numbered by falling count, so that c0 is seen most often.

    source: what units were measured from. model_id: of the encoder that made the vectors, if those are clustered.
    Raises AdaptationError: there are too few different faces.
    """
    units = np.concatenate([track.units for track in tracks])
    is_of_units = settings.feature == "units"
    # a unit that this source never tells is no feature; a face that lacks one that it does tell is left out
    columns = [name for name, told in zip(UNIT_NAMES, np.isfinite(units).any(axis=0), strict=True) if told]
    points = np.concatenate([track.features(settings.feature, columns) for track in tracks])
    whole = np.isfinite(points).all(axis=1)
    points, units = points[whole], units[whole]
    scale = _deviations(points) if is_of_units else np.ones(points.shape[1], np.float32)
    points = points / scale
    centres = fit_centres(points, settings.size, settings.seed)
    labels, distances = nearest(points, centres)
    limit = _limit(distances) if settings.limit is None else settings.limit
    is_near = distances <= limit
    counts = np.bincount(labels[is_near], minlength=settings.size)
    order = np.argsort(-counts, kind="stable")
    min_count = max(1, round(RARE * len(points) / settings.size)) if settings.min_count is None else settings.min_count
    made = Vocabulary(
        feature=settings.feature,
        model_id="" if is_of_units else model_id,
        source=source if is_of_units else "",
        measuring=measuring_of(source) if is_of_units else "",
        features=tuple(columns) if is_of_units else (),
        scale=scale,
        centres=centres[order],
        counts=counts[order],
        limit=limit,
        min_count=min_count,
        units=UNIT_NAMES,
        profiles=_profiles(units, labels, settings.size)[order],
        about=json.dumps(_about(tracks, len(points), source, settings)),
    )
    return Fitted(made, distances, int((~whole).sum()))


@dataclass(frozen=True, slots=True)
class Trained:
    """What training came to. tokens: how many there were. losses: [iterations]."""

    vocabulary: Vocabulary
    tokens: int
    losses: NDArray[np.float64]


def train(
    tracks: Sequence[Track], vocabulary: Vocabulary, settings: GloveSettings, tell: Tell, window: int = WINDOW
) -> Trained:
    """Train vectors for the tokens of some tracks. Tokens that are not there get none.

    Raises AdaptationError: there are too few different tokens. Raises TrainingError: the loss is not finite any more.
    """
    sequences = [tokens_of(track, vocabulary) for track in tracks]
    words = words_in(sequences)
    if len(set(words) - set(SPECIAL)) < 2:
        raise AdaptationError(
            f"fewer than two tokens beside {UNKNOWN} are there; train on recordings like those of the vocabulary"
        )
    numbers = numbered(sequences, words)
    counts = cooccurrences(numbers, len(words), window)
    vectors, losses = train_vectors(counts, settings, tell)
    seen = np.bincount(np.concatenate(numbers), minlength=len(words))
    is_there = seen > 0  # <unk> may not be
    made = replace(
        vocabulary,
        vector_tokens=tuple(word for word, there in zip(words, is_there, strict=True) if there),
        vector_counts=seen[is_there],
        vectors=vectors[is_there].astype(np.float32),
        about=json.dumps({**json.loads(vocabulary.about), "training": _about_training(tracks, settings, window)}),
    )
    return Trained(made, int(seen.sum()), losses)


def _limit(distances: NDArray[np.float64]) -> float:
    """Return the distance that WITHIN of all faces keep. Where each face is a centre it is as good as 0."""
    return max(float(np.quantile(distances, WITHIN, method="higher")), float(np.finfo(np.float32).tiny))


def _deviations(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard deviation of each feature, [D]; 1 for one that never changes."""
    deviations = points.std(axis=0, dtype=np.float64).astype(np.float32)
    return np.where(deviations > 1e-6, deviations, np.float32(1))


def _profiles(units: NDArray[np.float32], labels: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Return each centre's mean of each unit, [size, U], in deviations from the mean of all."""
    counts = np.bincount(labels, minlength=size)[:, None]
    sums = np.zeros((size, units.shape[1]))
    np.add.at(sums, labels, units)
    means = sums / np.maximum(counts, 1)
    profiles: NDArray[np.float64] = (means - units.mean(axis=0, dtype=np.float64)) / _deviations(units)
    return profiles.astype(np.float32)


def _about(tracks: Sequence[Track], faces: int, source: Source, settings: FitSettings) -> dict[str, Any]:
    return {
        **_about_tracks(tracks),
        "faces": faces,
        "units": source,
        "rate_hz": settings.rate_hz,
        "seed": settings.seed,
    }


def _about_training(tracks: Sequence[Track], settings: GloveSettings, window: int) -> dict[str, Any]:
    return {
        **_about_tracks(tracks),
        "window": window,
        "iterations": settings.iterations,
        "x_max": settings.x_max,
        "alpha": settings.alpha,
        "seed": settings.seed,
    }


def _about_tracks(tracks: Sequence[Track]) -> dict[str, Any]:
    """Count what there was; who it was is not said, as a vocabulary may be given away."""
    return {
        "people": len({track.person for track in tracks}),
        "recordings": len({track.recording for track in tracks}),
        "tracks": len(tracks),
        "faces": sum(map(len, tracks)),
    }
