"""Tokens: which centre a face is nearest to, or <unk>, and <START> and <END> around each track."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from psm_adapt.vocabulary.kmeans import nearest
from psm_adapt.vocabulary.tracks import Track
from psm_stream.clusters.vocabulary import END, START, UNKNOWN, Vocabulary


def points_of(track: Track, vocabulary: Vocabulary) -> NDArray[np.float32]:
    """Return a track's faces as a vocabulary sees them, [n, D]; NaN where a unit cannot be told."""
    return track.features(vocabulary.feature, vocabulary.features) / vocabulary.scale


def numbers_of(points: NDArray[np.float32], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Return the number of each face's token, [n]; -1 for <unk>.

    points: [n, D], divided by the vocabulary's scale.
    """
    numbers = np.full(len(points), -1, np.int64)
    whole = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(whole):
        found, distances = nearest(points[whole], vocabulary.centres)
        numbers[whole] = np.where((distances <= vocabulary.limit) & vocabulary.is_word[found], found, -1)
    return numbers


def tokens_of(track: Track, vocabulary: Vocabulary) -> list[str]:
    """Return a track's tokens, <START> and <END> around them."""
    numbers = numbers_of(points_of(track, vocabulary), vocabulary).tolist()
    return [START, *(vocabulary.token(number) for number in numbers), END]


def words_in(sequences: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return every token that is there, and <unk>, <START> and <END>, in order of their letters as published."""
    return tuple(sorted({START, END, UNKNOWN}.union(*sequences)))


def numbered(sequences: Iterable[Sequence[str]], words: Sequence[str]) -> list[NDArray[np.int64]]:
    """Turn tokens into their places among `words`. Raises KeyError: a token is none of them."""
    place = {word: number for number, word in enumerate(words)}
    return [np.array([place[token] for token in sequence], np.int64) for sequence in sequences]
