"""The nearest neighbours of an expression: by what it looks like, or by the company that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.vocabulary import UNKNOWN, Vocabulary
from psm_stream.errors import ConfigError

SHOWN, STANDS_OUT = 4, 0.5
"""So many units of a profile are shown, at most, and those that are so many deviations from the mean, at least."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A token near another. nearness: larger is nearer. faces: those of its centre; None: it has none.

    profile: its units that stand out, the strongest first, in deviations from their means.
    """

    token: str
    nearness: float
    faces: int | None
    profile: tuple[tuple[str, float], ...]


def vector_of(vocabulary: Vocabulary, token: str) -> NDArray[np.float32]:
    """Return a token's vector [d]; of a token that has none, that of <unk>.

    Found by the token's name: never by its place, and never zeros. Raises KeyError: <unk> has none either.
    """
    places = {word: number for number, word in enumerate(vocabulary.vector_tokens)}
    vector: NDArray[np.float32] = vocabulary.vectors[places[token] if token in places else places[UNKNOWN]]
    return vector


def by_vectors(vocabulary: Vocabulary, token: str, most: int) -> list[Neighbour]:
    """Return the tokens whose vectors point most nearly the same way from the mean of all; nearness is the cosine.

    What all vectors have in common says how often tokens are there at all, and would make the commonest everybody's
    neighbour (Mu, Viswanath 2018).

    Raises ConfigError: the vocabulary has no vectors, or none of this token.
    """
    if not vocabulary.vector_tokens:
        raise ConfigError("the vocabulary has no vectors; psm-adapt vocabulary train makes them, or give --by centres")
    _check(token, vocabulary.vector_tokens, "vector")
    vectors = vocabulary.vectors - vocabulary.vectors.mean(axis=0, dtype=np.float64)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = units @ units[vocabulary.vector_tokens.index(token)]
    return _nearest(vocabulary, vocabulary.vector_tokens, cosines, token, most)


def by_centres(vocabulary: Vocabulary, token: str, most: int) -> list[Neighbour]:
    """Return the tokens whose centres are nearest; nearness is minus the distance.

    Raises ConfigError: it is no token with a centre.
    """
    numbers = np.flatnonzero(vocabulary.is_word)
    words = [vocabulary.token(number) for number in numbers]
    _check(token, words, "centre")
    centres = vocabulary.centres[numbers].astype(np.float64)
    distances = np.linalg.norm(centres - centres[words.index(token)], axis=1)
    return _nearest(vocabulary, words, -distances, token, most)


BY: Mapping[str, Callable[[Vocabulary, str, int], list[Neighbour]]] = {"vectors": by_vectors, "centres": by_centres}
"""What is near: what is seen in the same company, or what looks alike."""


def itself(vocabulary: Vocabulary, token: str) -> Neighbour:
    """Return what is known of a token alone."""
    number = int(token[1:]) if token.startswith("c") and token[1:].isdigit() else -1
    if not 0 <= number < len(vocabulary):
        return Neighbour(token, 1.0, None, ())
    return Neighbour(token, 1.0, int(vocabulary.counts[number]), _standing_out(vocabulary, number))


def _nearest(
    vocabulary: Vocabulary, words: Sequence[str], nearness: NDArray[np.float64], token: str, most: int
) -> list[Neighbour]:
    order = [number for number in np.argsort(-nearness, kind="stable") if words[number] != token][:most]
    found = [itself(vocabulary, words[number]) for number in order]
    return [
        Neighbour(one.token, float(nearness[number]), one.faces, one.profile)
        for one, number in zip(found, order, strict=True)
    ]


def _standing_out(vocabulary: Vocabulary, number: int) -> tuple[tuple[str, float], ...]:
    profile = np.nan_to_num(vocabulary.profiles[number])
    order = np.argsort(-np.abs(profile), kind="stable")[:SHOWN]
    return tuple((vocabulary.units[n], float(profile[n])) for n in order if abs(profile[n]) >= STANDS_OUT)


def _check(token: str, words: Sequence[str], what: str) -> None:
    """Raise ConfigError where a token is none of these words."""
    if token not in words:
        from psm_stream.cli.common import nearest

        raise ConfigError(f"token {token!r} has no {what} in this vocabulary{nearest(token, words)}")
