"""The demo's mouth: from the photograph's open smile to closed lips, and from there to a dropped jaw.

Two warps of the photograph, one that follows the upper lip and one that follows the lower lip, are laid over what
lies between them: the photograph's own teeth, which stay with the skull, and a dark mouth under them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from psm_stream.sources import demo_landmarks as marks
from psm_stream.sources.demo_warp import Patch, Plane, Points, View, blend, make_patch, pull, smooth_step, warp
from psm_stream.values import Image

_MIDDLE = np.array((223.9, 145.6), np.float32)  # of the closed lips
_AXIS = np.array((1.0, 0.032), np.float32)  # the head is tilted so far
_DOWN = np.array((-0.032, 1.0), np.float32)
_HALF_WIDTH = 21.7  # of the smiling mouth
_RELAXED_WIDTH = 0.80  # of the smiling mouth's
_JAW_DROP = 17.0
_CORNER_DROP = 6.0
_GUMS = np.array((34.0, 12.0, 12.0), np.float32)
_TONGUE = np.array((112.0, 52.0, 50.0), np.float32)


@dataclass(frozen=True, slots=True)
class _Lips:
    """The four lip contours, [11, 2] each."""

    upper_outer: Points
    upper_inner: Points
    lower_inner: Points
    lower_outer: Points


class _Opening(NamedTuple):
    """The space between the lips over every column, [1, w] each, photograph pixels.

    top, bottom: its height at both lips. across: -1 at the left corner, 1 at the right. beside: way to the nearer
    corner, 0 between them.
    """

    top: Plane
    bottom: Plane
    across: Plane
    beside: Plane


class Mouth:
    """Draws the lower face for any strength of smile or jaw drop."""

    def __init__(self, view: View, photo: Image) -> None:
        """photo: the enlarged photograph, [H, W, 3] RGB, as `view` says."""
        self.patch = make_patch(view, 168, 110, 280, 222)
        self._upper = make_patch(view, 168, 110, 280, 174)
        self._lower = make_patch(view, 168, 128, 280, 222)
        self._seam = make_patch(view, 168, 128, 280, 174)
        self._mouth = make_patch(view, 198, 134, 250, 172)
        self._smiling = _without_teeth(self.patch, photo)
        self._relaxed = _without_folds(self.patch, self._smiling)
        self._fade = self.patch.edge_fade(8.0)
        self._teeth = self._mouth.cut(photo).astype(np.float32)
        self._is_teeth_smiling = _teeth_mask(self._mouth, margin=1.0)
        self._is_teeth_dropped = _teeth_mask(self._mouth, margin=-0.7)

    def draw(self, smile: float, jaw_drop: float) -> Image:
        """Lower face with both strengths in 0..1 (0 and 0: at rest, lips closed). Returns the patch, [h, w, 3] RGB."""
        lips = _place(smile, jaw_drop)
        skin: Image = cv2.addWeighted(self._smiling, smile, self._relaxed, 1.0 - smile, 0.0)
        around = marks.LOWER_FACE[:, :2]
        shifts = (1.0 - smile) * marks.LOWER_FACE[:, 2:4] + jaw_drop * marks.LOWER_FACE[:, 4:6]
        upper_lip = (marks.UPPER_LIP_OUTER, marks.UPPER_LIP_INNER[1:-1])
        lower_lip = (marks.LOWER_LIP_OUTER, marks.LOWER_LIP_INNER[1:-1])
        upper_goal = (lips.upper_outer, lips.upper_inner[1:-1])
        lower_goal = (lips.lower_outer, lips.lower_inner[1:-1])
        face: Image = np.empty_like(skin)
        upper = self._warp(self._upper, skin, (around, *upper_lip), (around + shifts, *upper_goal))
        lower = self._warp(self._lower, skin, (around, *lower_lip), (around + shifts, *lower_goal))
        face[self._upper.within(self.patch)] = upper
        face[self._lower.within(self.patch)] = lower
        self._join(upper[self._seam.within(self._upper)], lower[self._seam.within(self._lower)], lips, jaw_drop, face)
        return face

    def _warp(self, part: Patch, skin: Image, points: Sequence[Points], goal: Sequence[Points]) -> Image:
        start = np.vstack(points)
        dx, dy = pull(part, start, np.vstack(goal) - start)
        fade = self._fade[part.within(self.patch)]
        return warp(skin, self.patch, dx * fade, dy * fade, part)

    def _join(self, upper: Image, lower: Image, lips: _Lips, jaw_drop: float, face: Image) -> None:
        """Lay both lips over the inside of the mouth, into the seam between them in `face`."""
        opening = _opening(lips, self._seam.x[:1])
        over, under = _covers(opening, self._seam.y[:, :1])
        seam = cv2.blendLinear(upper, lower, over + np.float32(1e-6), under)
        mouth = self._mouth.within(self._seam)
        cover = np.minimum(over + under, 1.0)[mouth]
        inside = self._inside(_Opening(*(line[:, mouth[1]] for line in opening)), jaw_drop)
        seam[mouth] = cv2.blendLinear(np.ascontiguousarray(seam[mouth]), inside, cover, 1.0 - cover)
        face[self._seam.within(self.patch)] = seam

    def _inside(self, opening: _Opening, jaw_drop: float) -> Image:
        """What shows between the lips: teeth, tongue and darkness."""
        y = self._mouth.y[:, :1]
        gap = np.maximum(opening.bottom - opening.top, 0.5)
        depth = (y - opening.top) / gap
        outward = np.abs(opening.across)
        tongue = smooth_step((depth - 0.42) / 0.5) * (smooth_step((1.0 - outward) / 0.7) * smooth_step(gap / 12.0))
        mouth = blend(_GUMS, _TONGUE, tongue)
        # the lip's shadow on the teeth, and less light towards the corners
        light = (0.6 + 0.4 * smooth_step((y - opening.top) / 4.0)) * (1.0 - 0.75 * smooth_step(outward * 1.6 - 0.75))
        light = 1.0 + min(jaw_drop * 4, 1.0) * (light - 1.0)
        # closed lips show a dark line
        is_teeth = (self._is_teeth_dropped if jaw_drop else self._is_teeth_smiling) * smooth_step((gap - 0.6) / 1.5)
        inside: Image = blend(mouth, self._teeth * light[..., None], is_teeth).astype(np.uint8)
        return inside


def _opening(lips: _Lips, x: Plane) -> _Opening:
    left, right = lips.upper_inner[0, 0], lips.upper_inner[-1, 0]
    across = (x - (left + right) / 2) / ((right - left) / 2)
    beside = np.maximum(np.maximum(left - x, x - right), 0.0)
    return _Opening(_height(lips.upper_inner, x), _height(lips.lower_inner, x), across, beside)


def _covers(opening: _Opening, y: Plane) -> tuple[Plane, Plane]:
    """How far the upper and the lower warp show, [h, w] each in 0..1; neither does where the mouth is open."""
    middle = (opening.top + opening.bottom) / 2
    half_gap = np.where(opening.beside > 0, 0.0, np.maximum(opening.bottom - opening.top, 0.0) / 2)
    # beside the mouth the two warps agree but for a little: there they melt into one another
    softness = np.minimum(1.3 + 2.4 * opening.beside, 14.0)
    over = smooth_step((middle - half_gap - y) / softness + 0.5)
    return over, smooth_step((y - middle - half_gap) / softness + 0.5)


def _teeth_mask(patch: Patch, margin: float) -> Plane:
    """1 where the photograph shows the inside of the mouth, widened downwards by `margin` photograph pixels."""
    x, y = patch.x[:1], patch.y[:, :1]
    above = smooth_step(y - _height(marks.UPPER_LIP_INNER, x) + 0.9)
    return above * smooth_step(_height(marks.LOWER_LIP_INNER, x) + margin - y + 0.5)


def _place(smile: float, jaw_drop: float) -> _Lips:
    def place(contour: Points, height: float) -> Points:
        closed = smile * contour + (1.0 - smile) * _relax(contour, height)
        dropped: Points = closed + jaw_drop * _drop(closed, is_lower=height > 0)
        return dropped

    return _Lips(
        upper_outer=place(marks.UPPER_LIP_OUTER, -3.9),
        upper_inner=place(marks.UPPER_LIP_INNER, -0.2),
        lower_inner=place(marks.LOWER_LIP_INNER, 0.2),
        lower_outer=place(marks.LOWER_LIP_OUTER, 5.6),
    )


def _relax(contour: Points, height: float) -> Points:
    """Where a lip contour lies with closed lips. height: its distance from the closed line at the middle."""
    along = (contour - _MIDDLE) @ _AXIS
    outward = np.clip(np.abs(along) / _HALF_WIDTH, 0.0, 1.0)
    bow = 1.0 - outward**2.3
    below_line = (0.5 + height) * bow + 0.3 * (1 - bow)
    if height < -1:
        below_line += 0.45 * np.exp(-((along / 2.5) ** 2))  # the dip in the middle of the upper lip
    relaxed: Points = _MIDDLE + _RELAXED_WIDTH * along[:, None] * _AXIS + below_line[:, None] * _DOWN
    return relaxed


def _drop(contour: Points, is_lower: bool) -> Points:
    along = contour[:, 0] - _MIDDLE[0]
    outward = np.clip(np.abs(along) / np.abs(along).max(), 0.0, 1.0)
    arch = (1.0 - outward**2) ** 0.6
    down = _CORNER_DROP + (_JAW_DROP - _CORNER_DROP if is_lower else -_CORNER_DROP - 0.8) * arch
    shift: Points = np.column_stack([-0.13 * along, down]).astype(np.float32)
    return shift


def _height(contour: Points, x: Plane) -> Plane:
    """Height of a contour over every x [1, w]; level beyond its ends."""
    start, end = contour[0, 0], contour[-1, 0]
    middle, half = (start + end) / 2, (end - start) / 2
    # weighted so that the curve really meets the corners
    weights = np.ones(len(contour))
    weights[[0, -1]] = 4.0
    curve = np.polyfit((contour[:, 0] - middle) / half, contour[:, 1], 6, w=weights)
    return np.polyval(curve, (np.clip(x, start, end) - middle) / half).astype(np.float32)


def _without_teeth(patch: Patch, photo: Image) -> Image:
    """The patch with its lips grown over the open mouth, so that no warp of a lip drags teeth along."""
    x, y = patch.x[:1], patch.y[:, :1]
    inside = (y > _height(marks.UPPER_LIP_INNER, x) - 0.6) & (y < _height(marks.LOWER_LIP_INNER, x) + 0.6)
    inside &= (x > marks.UPPER_LIP_INNER[0, 0] - 0.8) & (x < marks.UPPER_LIP_INNER[-1, 0] + 0.8)
    grown: Image = cv2.inpaint(patch.cut(photo), inside.astype(np.uint8), 3.0, cv2.INPAINT_TELEA)
    return grown


def _without_folds(patch: Patch, face: Image) -> Image:
    """The patch with the folds of the smile evened out, freckles kept."""
    scale = patch.view.scale
    lines = np.zeros(face.shape[:2], np.float32)
    for fold in (marks.LEFT_FOLD, marks.RIGHT_FOLD):
        corners = (fold - (patch.x[0, 0], patch.y[0, 0])) * scale
        cv2.polylines(lines, [np.round(corners).astype(np.int32)], False, 1.0, max(1, round(4 * scale)))
    where = cv2.GaussianBlur(lines, (0, 0), 1.2 * scale) * 0.75
    coarse = cv2.GaussianBlur(face, (0, 0), 4.0 * scale).astype(np.float32)
    fine = cv2.GaussianBlur(face, (0, 0), 0.6 * scale)
    evened: Image = np.clip(face + where[..., None] * (coarse - fine), 0, 255).astype(np.uint8)
    return evened
