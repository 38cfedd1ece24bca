"""The canonical crop: where the parts of a face lie in it, and the warp that brings them there.

A template says where the eyes come to lie; each encoder's bundle names its own, and ours is `EYES_LEVEL`. The crop is
square, side 1 here. By ours the eye centres lie level at x = 0.5 -/+ 0.19, y = 0.34, so the distance between them is
0.38 of the side. In a resting face the brows then lie near y = 0.18, the mouth near 0.76 and the chin just
below the crop; a wide open mouth still ends inside it. These are the margins: 0.89 eye distances above the eye line,
1.74 below it and 1.32 to either side of the nose. The published systems crop "around eyes and mouth" but give no
margins, so these are ours.

Only points that ride on the skull take part in the fit, the corners of the eyes, the bridge and the root of the nose,
so a smile or an open mouth moves in the crop instead of moving the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from psm_stream.values import EYE_DISTANCE, Image

NAME = "eyes-level-1"
EYE_LINE_Y = 0.34


@dataclass(frozen=True, slots=True)
class Template:
    """Where the eyes lie in a crop; they are always level, and the middle between them is at half the width.

    name: for people. eye_distance: of the eye centres. eye_line_y: of the eyes below the upper edge. Both are shares of
    the crop's side.
    """

    name: str
    eye_distance: float
    eye_line_y: float

    def is_same(self, other: Template) -> bool:
        """Whether crops by both are the same, whatever they are called: to a thousandth of a pixel of 1000."""
        return abs(self.eye_distance - other.eye_distance) < _SAME and abs(self.eye_line_y - other.eye_line_y) < _SAME

    def __str__(self) -> str:
        return f"{self.name} (eyes {self.eye_distance:g} of the side apart, {self.eye_line_y:g} below the edge)"


_SAME = 1e-6
EYES_LEVEL = Template(NAME, EYE_DISTANCE, EYE_LINE_Y)
"""The template of the general model, and of everything that is trained here."""

RIGHT_EYE = (33, 133)
"""MediaPipe's indices of the corners of the person's right eye, which is on the left of the picture."""
LEFT_EYE = (362, 263)
MOUTH_CORNERS = (61, 291)

_RIGID = (33, 133, 362, 263, 168, 6, 2)
# Mean shape over 18 recordings, symmetrised; unit: eye distance, origin: midpoint of the eye centres, y down.
_RIGID_SHAPE = np.array(
    [(-0.72, -0.007), (-0.28, 0.007), (0.28, 0.007), (0.72, -0.007), (0, -0.103), (0, 0.019), (0, 0.724)],
    dtype=np.float64,
)


def fit(landmarks: NDArray[np.float32], size_px: int, template: Template = EYES_LEVEL) -> NDArray[np.float32]:
    """Find the similarity that brings a face into the crop.

    landmarks: [478, 2] px in the source frame. Returns [2, 3] float32, source pixels to crop pixels.
    The rotation makes the line through the eye centres level; scale and shift are the least-squares fit of the rigid
    points under that rotation. Source: Umeyama 1991, with the rotation fixed beforehand.
    """
    points = landmarks[list(_RIGID)].astype(np.float64)
    across = points[2:4].mean(axis=0) - points[0:2].mean(axis=0)
    length = float(np.hypot(*across)) or 1.0
    cos, sin = across / length
    rotation = np.array([[cos, sin], [-sin, cos]])
    level = apply(rotation, points)
    target = (_RIGID_SHAPE * template.eye_distance + (0.5, template.eye_line_y)) * size_px
    target -= 0.5  # pixel centres are whole numbers
    level_0, target_0 = level - level.mean(axis=0), target - target.mean(axis=0)
    scale = float((level_0 * target_0).sum() / max((level_0**2).sum(), 1e-9))
    shift = target.mean(axis=0) - scale * level.mean(axis=0)
    return np.hstack([scale * rotation, shift[:, None]]).astype(np.float32)


def warp(image: Image, to_crop: NDArray[np.float32], size_px: int) -> Image:
    """Warp a frame to the crop with sub-pixel sampling, and without aliasing when the face is larger than the crop.

    image: [H, W, 3] RGB. to_crop: [2, 3] from `fit`. Returns [size_px, size_px, 3] RGB; black outside the image.
    A large face is first sampled at about its own resolution, then averaged down by a whole factor (area filter).
    """
    source_px_per_crop_px = 1.0 / max(float(np.hypot(to_crop[0, 0], to_crop[1, 0])), 1e-6)
    factor = min(max(round(source_px_per_crop_px), 1), 16)
    if factor == 1:
        return _sample(image, to_crop.astype(np.float64), size_px)
    fine = to_crop.astype(np.float64) * factor
    fine[:, 2] += (factor - 1) / 2  # the centre of a coarse pixel is the centre of its block of fine ones
    return _area(_sample(image, fine, size_px * factor), size_px)


def to_crop_px(points: NDArray[np.float32], to_crop: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map points [N, 2] from source pixels to crop pixels."""
    mapped: NDArray[np.float32] = apply(to_crop[:, :2], points) + to_crop[:, 2]
    return mapped


def apply(matrix: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Return matrix [2, 2] times each of points [N, 2].

    Written out, since a product of matrices wakes OpenBLAS's threads, which then spin and cost live runs a whole core.
    """
    return np.stack(
        [points[:, 0] * row[0] + points[:, 1] * row[1] for row in (matrix[0], matrix[1])],
        axis=1,
    )


def inside(landmarks: NDArray[np.float32], width: int, height: int) -> float:
    """Return the share of landmarks [N, 2] that lie in the image, 0..1."""
    within = (landmarks >= 0).all(axis=1) & (landmarks < (width, height)).all(axis=1)
    return float(within.mean())


def _sample(image: Image, matrix: NDArray[np.float64], size_px: int) -> Image:
    sampled: Image = cv2.warpAffine(image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR)
    return sampled


def _area(image: Image, size_px: int) -> Image:
    small: Image = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return small
