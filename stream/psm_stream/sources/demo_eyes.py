"""The demo's eyes and brows: lids that close over the iris, brows that rise with the forehead's skin."""

from __future__ import annotations

import cv2
import numpy as np

from psm_stream.sources import demo_landmarks as marks
from psm_stream.sources.demo_warp import Plane, Points, View, make_patch, pull, smooth_step, warp
from psm_stream.values import Image

_LASHES = 3.0  # height of the lashes over the edge of the lid, photograph pixels
_LID_ROOM = 8.0  # skin above the edge of the open lid that stretches when it closes


class Brows:
    """Draws brows, forehead and fringe for any strength of a brow raise."""

    def __init__(self, view: View, face: Image) -> None:
        """face: the canvas [H, W, 3] RGB with the face at rest."""
        self.patch = make_patch(view, 172, 50, 280, 118)
        self._texture = self.patch.cut(face).copy()
        self._fade = self.patch.edge_fade(6.0)

    def draw(self, strength: float) -> Image:
        """strength: 0..1. Returns the patch, [h, w, 3] RGB."""
        points, shifts = marks.UPPER_FACE[:, :2], strength * marks.UPPER_FACE[:, 2:4]
        dx, dy = pull(self.patch, points, shifts)
        return warp(self._texture, self.patch, dx * self._fade, dy * self._fade)


class Lids:
    """Draws one eye for any strength of a blink."""

    def __init__(self, view: View, face: Image, upper: Points, lower: Points) -> None:
        """face: the canvas [H, W, 3] RGB with the face at rest. upper, lower: edges of the lids, left to right."""
        left, right = upper[0, 0], upper[-1, 0]
        self.patch = make_patch(view, left - 9, upper[:, 1].min() - 12, right + 9, lower[:, 1].max() + 7)
        self._texture = self.patch.cut(face).copy()
        x = self.patch.x[:1]
        self._open_edge = _edge(upper, x)
        # closed lids meet a little above where the lower lid rests
        opening = np.where((x > left) & (x < right), np.maximum(_edge(lower, x) - 0.4 - self._open_edge, 0.0), 0.0)
        # the skin beside the corners is drawn along, or it would tear there
        spread = 1.6 * view.scale
        self._travel = cv2.GaussianBlur(opening.astype(np.float32), (0, 0), spread, borderType=cv2.BORDER_REPLICATE)

    def draw(self, strength: float) -> Image:
        """strength: 0..1. Returns the patch, [h, w, 3] RGB."""
        y = self.patch.y
        travel = strength * self._travel
        edge = self._open_edge + travel
        # lashes ride on the edge as they are; the skin from brow to lashes stretches behind them
        top = self._open_edge - _LID_ROOM
        stretch = _ramp((y - top) / (edge - _LASHES - top))
        lid = warp(self._texture, self.patch, np.zeros_like(y), -travel * stretch)
        cover = smooth_step((edge - y) / 0.9 + 0.7)[..., None]
        # a half closed lid throws its shadow on the eye
        depth = 1.6 * strength * (1.0 - strength) * self._travel / self._travel.max()
        shadow = depth * smooth_step(1.0 - (y - edge) / 3.0)
        eye = self._texture * (1.0 - shadow)[..., None]
        drawn: Image = np.clip(eye + cover * (lid - eye) + 0.5, 0, 255).astype(np.uint8)
        return drawn


def _edge(contour: Points, x: Plane) -> Plane:
    """Height of the edge of a lid over every x [1, w]; level beyond the corners."""
    start, end = contour[0, 0], contour[-1, 0]
    middle, half = (start + end) / 2, (end - start) / 2
    curve = np.polyfit((contour[:, 0] - middle) / half, contour[:, 1], 5)
    return np.polyval(curve, (np.clip(x, start, end) - middle) / half).astype(np.float32)


def _ramp(fraction: Plane) -> Plane:
    """0 below 0, 1 above 1, straight but for its ends: the steeper the middle, the more the skin is stretched."""
    bend = 0.12
    x = np.clip(fraction, 0.0, 1.0)
    ends = np.where(
        x < bend, x * x / (2 * bend), np.where(x > 1 - bend, 1 - bend - (1 - x) ** 2 / (2 * bend), x - bend / 2)
    )
    return (ends / (1 - bend)).astype(np.float32)
