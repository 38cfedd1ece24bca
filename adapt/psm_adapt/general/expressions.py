"""How each blendshape moves the landmarks of a face, learned from aligned video.

Landmark movement is regressed on blendshapes, within each recording, with the head's turning taken out; the result is a
set of displacement fields, one per blendshape, by which any face can be given an expression with known parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.store import CropStore
from psm_stream.errors import StoreError

Array = NDArray[np.float64]

SHORTEST = 250
"""Frames a recording must have to be learned from: its median is then a resting face."""
_LEAST_DEVIATION = 0.015
"""A blendshape that moves less than this in all the videos has taught nothing and moves nothing."""
_RIDGE = 3e-3
_NOSE_TIP, _EYE_CORNERS, _TEMPLES = 1, (33, 133, 362, 263), (234, 454)


@dataclass(frozen=True, slots=True)
class ExpressionBasis:
    """fields: [52, 478, 2], px of the crop that each landmark moves when a blendshape goes from 0 to 1.

    explained: share of the landmarks' variance in the videos that the blendshapes and the head's turning explain.
    """

    fields: Array
    explained: float

    def displacement(self, blendshapes: Array) -> Array:
        """Return the movement [478, 2] px of the crop that changes of the blendshapes [52] make."""
        moved: Array = np.tensordot(blendshapes, self.fields, axes=1)
        return moved


def learn_expressions(store: CropStore) -> ExpressionBasis:
    """Fit the basis by ridge regression over all recordings with blendshapes.

    Raises StoreError: there are no blendshapes, or no recording of 250 frames.
    """
    if store.blendshapes is None:
        raise StoreError(f"crop store {store.folder} has no blendshapes; make it with psm-adapt crops --landmarker")
    causes, movements = [], []
    for recording in store.recordings:
        rows = slice(recording.start, recording.start + recording.count)
        shapes, points = store.blendshapes[rows].astype(np.float64), store.landmarks[rows].astype(np.float64)
        known = np.isfinite(shapes).all(axis=1) & np.isfinite(points).all(axis=(1, 2))
        if known.sum() < SHORTEST:
            continue
        shapes, points = shapes[known], points[known]
        causes.append(np.hstack([shapes - np.median(shapes, axis=0), turning(points)]))
        movements.append((points - np.median(points, axis=0)).reshape(len(points), -1))
    if not causes:
        raise StoreError(f"crop store {store.folder} has no recording with {SHORTEST} labelled frames to learn from")
    cause, movement = np.concatenate(causes), np.concatenate(movements)
    penalty = np.full(cause.shape[1], _RIDGE * len(cause))
    penalty[52:] /= 10  # turning is to be taken out, not to be shrunk
    weights = np.linalg.solve(cause.T @ cause + np.diag(penalty), cause.T @ movement)
    explained = 1 - float(((movement - cause @ weights) ** 2).sum() / (movement**2).sum())
    fields = weights[:52].reshape(52, -1, 2)
    fields[cause[:, :52].std(axis=0) < _LEAST_DEVIATION] = 0
    return ExpressionBasis(fields, explained)


def turning(points: Array, resting: Array | None = None) -> Array:
    """Measure how a head is turned, by where the nose's tip and the temples lie: [N, 478, 2] px to [N, 8].

    It is the turn away from `resting` [478, 2], or, without, from the median of the points; then it is centred, too. A
    linear measure is enough here: it only has to soak up what is no expression. Squares stand for large turns.
    """
    if resting is not None:
        turned, at_rest = _turn(points), _turn(resting[None])
        return np.hstack([turned - at_rest, (turned - at_rest) ** 2])
    first = _turn(points)
    first = first - np.median(first, axis=0)
    both: Array = np.hstack([first, first**2])
    centred: Array = both - both.mean(axis=0)
    return centred


def _turn(points: Array) -> Array:
    eyes = points[:, _EYE_CORNERS].mean(axis=1)
    nose = (points[:, _NOSE_TIP] - eyes) / 20
    temples = (points[:, _TEMPLES] - eyes[:, None]).sum(axis=1) / 20
    turned: Array = np.hstack([nose, temples])
    return turned
