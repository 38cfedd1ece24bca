"""Moving a picture by landmarks: thin-plate fields, the opened mouth, and another person's skin.

Pictures are the canonical crop with a blurred margin around it (`with_margin`), so that a whole face lies inside, for
the aligner to find; points are in px of that picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from psm_stream.values import Image

Array = NDArray[np.float64]
Map = NDArray[np.float32]

MARGIN_PX = 64
SIDE_PX = 256
"""Side of a picture: the crop's 128 and two margins."""

_GRID = 32
_SOFTNESS = 1e-4
_LIPS_INSIDE = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
_LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
_BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 336, 296, 334, 293, 300, 276, 283, 282, 295, 285)
_OTHERS = (468, 473, 1, 2, 98, 327, 4, 152, 10)
_HANDLES = np.unique([*range(0, 478, 5), *_LIPS_INSIDE, *_LIPS, *_RIGHT_EYE, *_LEFT_EYE, *_BROWS, *_OTHERS])
"""Landmarks that pull the picture: every fifth, and all around eyes, brows and mouth."""


@dataclass(frozen=True, slots=True)
class Mouth:
    """What shows in a mouth that was closed. Colours [3] RGB 0..255. teeth: their share of the opening, 0 for none."""

    inside: Array
    enamel: Array
    teeth: float


def with_margin(crop: Image) -> Image:
    """Put a crop [128, 128, 3] into the middle of a picture [256, 256, 3] whose margin is its edge, blurred."""
    picture = cv2.copyMakeBorder(crop, MARGIN_PX, MARGIN_PX, MARGIN_PX, MARGIN_PX, cv2.BORDER_REPLICATE)
    blurred: Image = cv2.GaussianBlur(picture, (0, 0), 6)
    blurred[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = crop
    return blurred


def thin_plate(source: Array, target: Array) -> Map:
    """Find the field that brings a picture's landmarks to other places: for each target pixel, where it comes from.

    source, target: [478, 2] px. Returns [256, 256, 2] px, for cv2.remap. The picture's edge stays where it is.
    Source: Bookstein, "Principal Warps", PAMI 1989, with a slight smoothing; evaluated on a 32 x 32 grid.
    """
    edge = _edge()
    centres = np.concatenate([target[_HANDLES], edge]) / SIDE_PX
    pulls = np.concatenate([source[_HANDLES] - target[_HANDLES], np.zeros_like(edge)])
    count = len(centres)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _bending(centres, centres) + _SOFTNESS * np.eye(count)
    system[:count, count:] = np.column_stack([np.ones(count), centres])
    system[count:, :count] = system[:count, count:].T
    weights = np.linalg.solve(system, np.concatenate([pulls, np.zeros((3, 2))]))
    grid = _grid()
    coarse = _bending(grid, centres) @ weights[:count] + np.column_stack([np.ones(len(grid)), grid]) @ weights[count:]
    coarse = coarse.reshape(_GRID, _GRID, 2).astype(np.float32)
    fine = cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(_pixels() + fine, np.float32)


def warped(picture: Image, field: Map) -> NDArray[np.float32]:
    """Sample a picture along a field. Returns [256, 256, 3] float 0..255."""
    sampled: NDArray[np.float32] = cv2.remap(
        picture, field[..., 0], field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    ).astype(np.float32)
    return sampled


def open_mouth(picture: NDArray[np.float32], source: Array, target: Array, mouth: Mouth) -> NDArray[np.float32]:
    """Paint the inside of a mouth that the warp has opened, where it would only stretch the lips."""
    opened = _opening(target) - _opening(source)
    if opened < 1.0:
        return picture
    outline = target[list(_LIPS_INSIDE)]
    mask = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    cv2.fillPoly(mask, [np.round(outline * 8).astype(np.int32)], (1.0,), shift=3)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None] * min(1.0, opened / 2.5)
    top, bottom = outline[:, 1].min(), outline[:, 1].max()
    row = np.arange(SIDE_PX)[:, None, None]
    shows_teeth = (row >= top) & (row < top + mouth.teeth * (bottom - top))
    return np.asarray(picture * (1 - mask) + np.where(shows_teeth, mouth.enamel, mouth.inside) * mask, np.float32)


def skin_mask(target: Array) -> NDArray[np.float32]:
    """Weigh the skin of a face, 0..1 [256, 256, 1]: inside its outline, without eyes and mouth, with soft edges."""
    mask = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    cv2.fillConvexPoly(mask, np.round(cv2.convexHull(target.astype(np.float32))).astype(np.int32), (1.0,))
    for outline in (_RIGHT_EYE, _LEFT_EYE, _LIPS):
        hull = cv2.convexHull(target[list(outline)].astype(np.float32)).reshape(-1, 2)
        middle = hull.mean(axis=0)
        cv2.fillConvexPoly(mask, np.round(middle + (hull - middle) * 1.25).astype(np.int32), (0.0,))
    soft: NDArray[np.float32] = cv2.GaussianBlur(mask, (0, 0), 4)[..., None]
    return soft


def _opening(points: Array) -> float:
    return float(np.linalg.norm(points[13] - points[14]))


def _bending(at: Array, centres: Array) -> Array:
    """The thin plate's kernel r^2 log r, [A, C]."""
    squared = ((at[:, None] - centres[None]) ** 2).sum(axis=-1)
    kernel: Array = 0.5 * squared * np.log(squared + 1e-12)
    return kernel


@lru_cache(maxsize=1)
def _edge() -> Array:
    places = np.linspace(-8, SIDE_PX + 7, 6)
    first, last = places[0], places[-1]
    return np.array([(x, y) for x in places for y in places if {x, y} & {first, last}])


@lru_cache(maxsize=1)
def _grid() -> Array:
    places = (np.arange(_GRID) + 0.5) / _GRID - 0.5 / SIDE_PX  # the middles of cells, as cv2.resize has it
    grid: Array = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
    return grid


@lru_cache(maxsize=1)
def _pixels() -> Map:
    places = np.arange(SIDE_PX, dtype=np.float32)
    return np.stack(np.meshgrid(places, places), axis=-1)
