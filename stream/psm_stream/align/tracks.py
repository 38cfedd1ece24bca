"""Face ids that stay: a face keeps its id while it is followed, and gets it back when it returns nearby."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Box: TypeAlias = tuple[float, float, float]
"""The centre x, y and the longer side of the box around a face, px."""


@dataclass
class FaceIds:
    """Hands out ids from 0. One person alone in front of the camera is therefore always face 0."""

    last_box: dict[int, Box] = field(default_factory=dict)
    """Per id: the box of the face when last seen."""

    def take(self, box: Box, in_use: set[int]) -> int:
        """Return an id for a new face: that of a lost face last seen within one face size, else the lowest free one."""
        x, y, size = box
        lost = [
            (float(np.hypot(x - old_x, y - old_y)), face_id)
            for face_id, (old_x, old_y, _) in self.last_box.items()
            if face_id not in in_use
        ]
        near = [(distance, face_id) for distance, face_id in lost if distance <= size]
        if near:
            return min(near)[1]
        return next(n for n in range(len(in_use) + 1) if n not in in_use)

    def seen(self, face_id: int, box: Box) -> None:
        """Remember where a face was."""
        self.last_box[face_id] = box


def box_of(landmarks: NDArray[np.float32]) -> Box:
    """Return the box around landmarks [N, 2] px."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    centre = (low + high) / 2
    return float(centre[0]), float(centre[1]), float((high - low).max())


def same_place(a: Box, b: Box) -> bool:
    """Tell whether two boxes are of one face: their centres lie within half the larger size."""
    return _distance(a, b) < 0.5 * max(a[2], b[2])


def still_followed(before: Mapping[int, Box], now: Sequence[Box]) -> dict[int, int]:
    """Find the faces of the frame before among this frame's boxes, the nearest pairs in the same place first.

    before: the box of each face id that was followed. Returns the id for each position in `now` that is one of them.
    """
    pairs = sorted(
        (_distance(old, new), face_id, n)
        for face_id, old in before.items()
        for n, new in enumerate(now)
        if same_place(old, new)
    )
    ids: dict[int, int] = {}
    for _, face_id, n in pairs:
        if n not in ids and face_id not in ids.values():
            ids[n] = face_id
    return ids


def _distance(a: Box, b: Box) -> float:
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))
