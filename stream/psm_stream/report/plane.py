"""The plane: some thousand faces of a session in the two directions in which their vectors differ the most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from psm_stream.report.story import Plane
from psm_stream.values import Embedding, Image

MOST = 2400
"""Faces that are kept, at most: 120 MB of crops."""


class Encodes(Protocol):
    """What is needed of an encoder."""

    def encode(self, crop: Image) -> NDArray[np.float32]:
        """Return the vector [D] of a crop."""
        ...


@dataclass(frozen=True, slots=True)
class _Kept:
    crop: Image
    vector: NDArray[np.float32]
    model_id: str
    cluster: int


class Sample:
    """Every n-th embedding of a session; n doubles when there are too many, so that they stay evenly spread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: list[_Kept] = []
        self._every = 1
        self._last_model = ""
        self.seen = 0

    def offer(self, embedding: Embedding, cluster: int) -> None:
        """Take the next embedding. cluster: what it is drawn as."""
        self._last_model = embedding.model_id
        if self.seen % self._every == 0:
            self._kept.append(_Kept(embedding.face.crop, embedding.vector, embedding.model_id, cluster))
            if len(self._kept) > self._most:
                self._kept = self._kept[::2]
                self._every *= 2
        self.seen += 1

    def plane(
        self, open_encoder: Callable[[str], Encodes], progress: Callable[[float], None] = lambda _: None
    ) -> Plane | None:
        """Return the plane, by the last encoder: faces that another one had seen are encoded again by it.

        open_encoder: opens a model of the session by its id; asked only if there was more than one. None: fewer than
        three faces. Raises what open_encoder raises.
        """
        if len(self._kept) < 3:
            return None
        last = self._last_model
        encoder = open_encoder(last) if any(one.model_id != last for one in self._kept) else None
        vectors = []
        for count, one in enumerate(self._kept):
            is_old = encoder is not None and one.model_id != last
            vectors.append(encoder.encode(one.crop) if is_old and encoder is not None else one.vector)
            progress(count / len(self._kept))
        xy, explained = principal(np.array(vectors, np.float64))
        clusters = np.array([one.cluster for one in self._kept], np.int32)
        return Plane(xy, clusters, explained, last, self.seen)


def principal(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the first two principal components of vectors [n, D]: [n, 2], and the share of variance of each.

    The sign of a direction is chosen so that its largest weight is positive. Source: Pearson 1901.
    """
    centred = vectors - vectors.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    two = np.zeros((2, vectors.shape[1]))
    two[: len(directions)] = directions[:2]
    rows = np.arange(2)
    two *= np.where(two[rows, np.abs(two).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    variance = np.append(lengths**2, 0.0)
    shares = variance[:2] / (variance.sum() or 1.0)
    return centred @ two.T, (float(shares[0]), float(shares[1]))
