"""Which faces a step of the general training sees: rows of several stores, drawn by person and by how much they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psm_adapt.data.store import CropStore
from psm_adapt.general.ranking import FRAMES, anchors_of, sequence_of

Array = NDArray[np.float64]

_ENOUGH = 600
"""Frames of one person beyond which more of them add nothing to how often this person is drawn."""


class FacePool:
    """The rows of some stores, one after the other, with how often each is drawn.

    Args:
        real: Real people. made: Synthetic ones, or None. share: Of synthetic faces among those drawn, 0..1.
    """

    def __init__(self, real: CropStore, made: CropStore | None, share: float) -> None:
        self.stores: Sequence[CropStore] = [real] if made is None else [real, made]
        self.starts = np.cumsum([0, *(len(store) for store in self.stores)])
        weights = [_weights(store) for store in self.stores]
        if made is not None:
            weights = [weights[0] * (1 - share), weights[1] * share]
        joined = np.concatenate(weights)
        self.chance: Array = joined / joined.sum()
        self.track = _tracks(self.stores)
        """[N]: number of the uninterrupted stretch of one recording that a row is in."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw rows."""
        return rng.choice(len(self), count, p=self.chance)

    def partners(self, rng: np.random.Generator, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw, for each row, another row of the same stretch."""
        first = np.searchsorted(self.track, self.track[rows], side="left")
        last = np.searchsorted(self.track, self.track[rows], side="right")
        return first + (rng.uniform(size=len(rows)) * (last - first)).astype(np.int64)

    def sequences(self, rng: np.random.Generator, count: int, spacing: int = 1) -> NDArray[np.int64]:
        """Draw rows of real sequences for temporal ranking: [count * 12]."""
        lengths = np.bincount(self.track[: self.starts[1]])
        begins = np.cumsum(np.concatenate([[0], lengths[:-1]]))
        anchors = np.array([anchors_of(int(length), spacing) for length in lengths])
        chosen = rng.choice(len(lengths), count, p=np.sqrt(anchors) / np.sqrt(anchors).sum())
        offsets = (rng.uniform(size=count) * anchors[chosen]).astype(np.int64)
        rows = [sequence_of(int(begins[one] + offset), spacing) for one, offset in zip(chosen, offsets, strict=True)]
        return np.concatenate(rows).reshape(count * FRAMES)

    def crops(self, rows: NDArray[np.int64]) -> Tensor:
        """Read crops: uint8 [n, 128, 128, 3]."""
        crops = np.empty((len(rows), *self.stores[0].crops.shape[1:]), np.uint8)
        for store, start, stop in zip(self.stores, self.starts, self.starts[1:], strict=False):
            mine = (rows >= start) & (rows < stop)
            crops[mine] = store.read(rows[mine] - start)
        return torch.from_numpy(crops)


def _weights(store: CropStore) -> Array:
    """How often each row is drawn: people alike up to a root, and within a person the more the more a face does."""
    shapes = np.nan_to_num(np.asarray(store.blendshapes, np.float64))
    spread = shapes.std(axis=0) + 0.04
    weights = np.zeros(len(store))
    for number in range(len(store.people)):
        rows = np.flatnonzero(store.person == number)
        doing = np.sqrt((((shapes[rows] - np.median(shapes[rows], axis=0)) / spread) ** 2).sum(axis=1))
        mine = 0.3 + doing / max(float(doing.mean()), 1e-9)
        weights[rows] = mine / mine.sum() * np.sqrt(min(len(rows), _ENOUGH))
    even: Array = weights / weights.sum()
    return even


def _tracks(stores: Sequence[CropStore]) -> NDArray[np.int64]:
    tracks, first = [], 0
    for store in stores:
        changes = (np.diff(store.recording) != 0) | (np.diff(store.segment) != 0)
        track = first + np.concatenate([[0], np.cumsum(changes)])
        tracks.append(track)
        first = int(track[-1]) + 1
    return np.concatenate(tracks)
