"""What the teacher says of each face, and how the code is to hold it.

The aligner is a free teacher: MediaPipe's blendshapes and landmarks, no human labels. Of each frame it gives
  absolute   the blendshapes that move at all,
  change     the same, less the resting face's: how far the face is from this person's resting face, which is the
             recording's median, or a synthetic clip's first picture,
  shape      the landmarks' movement about the resting face, with the head's turning taken out, as principal components,
  pose       how the head is turned (`expressions.turning`),
each with deviation 1. What is not known (the change in a recording too short for a resting face) is NaN.

The code holds them all through one fixed random rotation, so each of its 256 numbers is a mixture, like the codes that
FaceCycle learns. A linear readout of the teacher's values is the rotation's transpose (`Lesson.read`), and everything
else is kept out of the code: in trials, what a code holds besides (who it is, how the light falls) lowered the probe
across people from .41 to .35.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psm_adapt.data.store import CropStore
from psm_adapt.general.expressions import SHORTEST, turning
from psm_adapt.general.mirror import mirrored_blendshapes, mirrored_landmarks
from psm_export.networks.facecycle import CODE
from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.errors import StoreError

Array = NDArray[np.float64]

_LEAST_DEVIATION = 0.012
_COMPONENTS = 24
_LARGEST = (-4.0, 6.0)
"""Deviations beyond which a value is cut off."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much of the code each kind of value gets: the deviation it makes there, relative to the others."""

    absolute: float = 0.3
    change: float = 1.0
    shape: float = 0.7
    pose: float = 0.35


DEFAULT = Weights()


@dataclass(frozen=True)
class Lesson:
    """The teacher's values for all rows of some stores, one after the other.

    names: K names, "absolute/jawOpen". values, mirrored: float32 [N, K], of each row's face and of its mirror image.
    weights: [K]. rotation: [256, K], orthonormal columns.
    """

    names: tuple[str, ...]
    values: Tensor
    mirrored: Tensor
    weights: Tensor
    rotation: Tensor

    def read(self, codes: Tensor) -> Tensor:
        """Read the teacher's values out of codes before their tanh: [N, 256] to [N, K]."""
        return codes @ self.rotation / (self.weights * self.scale)

    def leftover(self, codes: Tensor) -> Tensor:
        """Mean square of what codes [N, 256] before their tanh hold besides, relative to what they should hold."""
        besides = codes - (codes @ self.rotation) @ self.rotation.T
        return besides.square().sum(1).mean() / ((self.weights * self.scale) ** 2).sum()

    @property
    def scale(self) -> float:
        """What a deviation of 1 is in the code, so that its numbers deviate by about a quarter and tanh is straight."""
        return 0.25 * float((CODE / self.weights.square().sum()).sqrt())


def learn_lesson(stores: Sequence[CropStore], weights: Weights = DEFAULT, seed: int = 7) -> Lesson:
    """Collect what the teacher says of every row of the stores. Means and deviations are those of the first store.

    Raises StoreError: a store has no blendshapes, or the first has no recording long enough for a resting face.
    """
    for store in stores:
        if store.blendshapes is None:
            raise StoreError(f"crop store {store.folder} has no blendshapes; make it with psm-adapt crops --landmarker")
    faces = _Faces(stores)
    twins = mirrored_blendshapes()
    active = np.flatnonzero(np.nanstd(faces.shapes[: len(stores[0])], axis=0) > _LEAST_DEVIATION)
    active = np.union1d(active, twins[active])
    mean = np.nanmean(faces.shapes[: len(stores[0])], axis=0)
    deviation = np.nanstd(faces.shapes, axis=0) + 0.04  # a blendshape that hardly moves is not blown up
    mean, deviation = (mean + mean[twins]) / 2, (deviation + deviation[twins]) / 2
    absolute, change = (faces.shapes - mean) / deviation, (faces.shapes - faces.resting_shapes) / deviation
    shape, shape_mirrored = _components(faces)
    pose, pose_mirrored = _poses(faces)
    plain = np.hstack([absolute[:, active], change[:, active], shape, pose])
    mirrored = np.hstack([absolute[:, twins[active]], change[:, twins[active]], shape_mirrored, pose_mirrored])
    kinds = [("absolute", len(active)), ("change", len(active)), ("shape", shape.shape[1]), ("pose", pose.shape[1])]
    labels = [BLENDSHAPES[n] for n in active]
    names = [f"{kind}/{labels[n] if count == len(active) else n}" for kind, count in kinds for n in range(count)]
    amounts = [getattr(weights, kind) for kind, count in kinds for _ in range(count)]
    drawn = torch.randn(CODE, len(names), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Lesson(
        names=tuple(names),
        values=torch.from_numpy(plain.clip(*_LARGEST)).float(),
        mirrored=torch.from_numpy(mirrored.clip(*_LARGEST)).float(),
        weights=torch.tensor(amounts),
        rotation=torch.linalg.qr(drawn)[0].float(),
    )


class _Faces:
    """All rows of some stores: blendshapes, landmarks, and each recording's resting values where it has any."""

    def __init__(self, stores: Sequence[CropStore]) -> None:
        self.shapes = np.concatenate([np.asarray(store.blendshapes, np.float64) for store in stores])
        self.points = np.concatenate([np.asarray(store.landmarks, np.float64) for store in stores])
        self.resting_shapes = np.full_like(self.shapes, np.nan)
        self.moves = np.full_like(self.points, np.nan)
        self.turns = np.full((len(self.shapes), 8), np.nan)
        first = 0
        for store in stores:
            for recording in store.recordings:
                rows = slice(first + recording.start, first + recording.start + recording.count)
                if recording.kind == "made":
                    self._rest(rows, self.shapes[rows.start], self.points[rows.start])
                elif recording.count >= SHORTEST:
                    resting = np.nanmedian(self.shapes[rows], axis=0), np.median(self.points[rows], axis=0)
                    self._rest(rows, *resting)
            first += len(store)
        if np.isnan(self.resting_shapes[: len(stores[0])]).all():
            raise StoreError(f"crop store {stores[0].folder} has no recording of {SHORTEST} frames to know a face by")

    def _rest(self, rows: slice, shapes: Array, points: Array) -> None:
        self.resting_shapes[rows] = shapes
        self.moves[rows] = self.points[rows] - points
        self.turns[rows] = turning(self.points[rows], points)


def _components(faces: _Faces) -> tuple[Array, Array]:
    """Principal components of the landmarks' movement without the head's turning, of faces and their mirror images."""
    known = np.isfinite(faces.moves).all(axis=(1, 2))
    moves, turns = faces.moves[known].reshape(known.sum(), -1), faces.turns[known]
    moves = moves - turns @ np.linalg.lstsq(turns, moves, rcond=None)[0]
    twins = mirrored_landmarks(np.nanmean(faces.points, axis=0))
    mirrored = moves.reshape(len(moves), -1, 2)[:, twins] * np.array([-1.0, 1.0])
    mirrored = mirrored.reshape(len(moves), -1)
    directions = np.linalg.svd(np.concatenate([moves[::5], mirrored[::5]]), full_matrices=False)[2][:_COMPONENTS].T
    deviation = (moves @ directions).std(axis=0)
    plain, other = (np.full((len(known), _COMPONENTS), np.nan) for _ in range(2))
    plain[known], other[known] = moves @ directions / deviation, mirrored @ directions / deviation
    return plain, other


def _poses(faces: _Faces) -> tuple[Array, Array]:
    """The head's turning: nose and temples to the side and up; to the side is the other way in the mirror."""
    turns = faces.turns[:, :4] / np.nanstd(faces.turns[:, :4], axis=0)
    return turns, turns * np.array([-1.0, 1.0, -1.0, 1.0])
