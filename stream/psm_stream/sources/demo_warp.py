"""Smooth warps of the demo's photograph: rectangles of its enlarged canvas, and thin-plate splines through points.

All geometry is in photograph pixels (pixel centres at whole numbers), so that it holds for every frame size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from psm_stream.values import Image

Points = NDArray[np.float32]
"""[N, 2] x and y in photograph pixels."""

Plane = NDArray[np.float32]
"""[H, W], one number per pixel of a patch."""

_STEP_PX = 2.5  # the splines are solved on a grid this coarse (photograph pixels) and enlarged bicubically


@dataclass(frozen=True, slots=True)
class View:
    """How the photograph lies in the canvas. scale: canvas pixels per photograph pixel. x0, y0: its top left corner."""

    scale: float
    x0: float
    y0: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Patch:
    """A rectangle of the canvas. x, y: [h, w] where each of its pixels lies in the photograph."""

    view: View
    rows: slice
    cols: slice
    x: Plane
    y: Plane

    def edge_fade(self, width: float) -> Plane:
        """1 inside, falling smoothly to 0 at the patch's border over `width` photograph pixels."""
        inside_x = np.minimum(self.x - self.x[0, 0], self.x[0, -1] - self.x)
        inside_y = np.minimum(self.y - self.y[0, 0], self.y[-1, 0] - self.y)
        return smooth_step(np.minimum(inside_x, inside_y) / width)

    def cut(self, canvas: Image) -> Image:
        """The patch's own part of the canvas, [h, w, 3]; a view."""
        return canvas[self.rows, self.cols]

    def within(self, other: Patch) -> tuple[slice, slice]:
        """Rows and columns of this patch inside a larger one."""
        top, left = other.rows.start, other.cols.start
        rows = slice(self.rows.start - top, self.rows.stop - top)
        return rows, slice(self.cols.start - left, self.cols.stop - left)


def make_patch(view: View, left: float, top: float, right: float, bottom: float) -> Patch:
    """The part of the canvas that covers this rectangle of the photograph, cut at the canvas's edges."""
    cols = slice(max(0, int((left - view.x0) * view.scale)), min(view.width, int((right - view.x0) * view.scale)))
    rows = slice(max(0, int((top - view.y0) * view.scale)), min(view.height, int((bottom - view.y0) * view.scale)))
    x = np.arange(cols.start, cols.stop, dtype=np.float32) / view.scale + view.x0
    y = np.arange(rows.start, rows.stop, dtype=np.float32) / view.scale + view.y0
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return Patch(view, rows, cols, grid_x, grid_y)


def coarse_grid(patch: Patch, step: int) -> tuple[Plane, Plane]:
    """Where every step-th pixel of the patch lies, and one more all around, for `enlarge` to fill in the others."""
    height, width = patch.x.shape
    # cv2.resize takes pixel i of a coarse plane as the middle of pixels i * step to i * step + step - 1
    spacing, middle = step / patch.view.scale, (step - 1) / 2 / patch.view.scale
    x = np.arange(-1, -(-width // step) + 1, dtype=np.float32) * spacing + (patch.x[0, 0] + middle)
    y = np.arange(-1, -(-height // step) + 1, dtype=np.float32) * spacing + (patch.y[0, 0] + middle)
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return grid_x, grid_y


def enlarge(coarse: Plane, patch: Patch, step: int, interpolation: int) -> Plane:
    """A plane given on `coarse_grid`, for every pixel of the patch."""
    height, width = patch.x.shape
    size = coarse.shape[1] * step, coarse.shape[0] * step
    fine: Plane = cv2.resize(coarse, size, interpolation=interpolation)
    return fine[step : step + height, step : step + width]


def pull(patch: Patch, points: Points, shifts: Points) -> tuple[Plane, Plane]:
    """Where to read so that `points` of the photograph appear moved by `shifts`: dx, dy for every pixel of the patch.

    A thin-plate spline over the moved points gives the way back, exact at each of them and smooth between.
    Source: Bookstein 1989, "Principal Warps".
    """
    step = max(1, round(_STEP_PX * patch.view.scale))
    x, y = coarse_grid(patch, step)
    back = _spline(points + shifts, -shifts, np.column_stack([x.ravel(), y.ravel()]))
    dx, dy = (enlarge(back[:, i].reshape(x.shape), patch, step, cv2.INTER_CUBIC) for i in (0, 1))
    return dx, dy


def warp(texture: Image, patch: Patch, dx: Plane, dy: Plane, part: Patch | None = None) -> Image:
    """Read a patch's texture [h, w, 3] at every pixel's own place plus (dx, dy); or only in `part` of the patch."""
    part = part or patch
    scale = np.float32(patch.view.scale)
    map_x = (part.x + dx - patch.x[0, 0]) * scale
    map_y = (part.y + dy - patch.y[0, 0]) * scale
    moved: Image = cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved


def smooth_step(x: Plane) -> Plane:
    """0 up to 0, 1 from 1 on, with a level start and end."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def blend(below: Plane, above: Plane, alpha: Plane) -> Plane:
    """Lay `above` over `below`, both [h, w, 3] float32, with alpha [h, w] in 0..1."""
    return below + alpha[..., None] * (above - below)


def _spline(centres: Points, values: Points, at: Points) -> Points:
    count = len(centres)
    affine = np.column_stack([np.ones(count), centres])
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(centres, centres)
    system[:count, count:] = affine
    system[count:, :count] = affine.T
    # not numpy's solver: its thread pool costs ten times the work here
    _, solution = cv2.solve(system, np.vstack([values, np.zeros((3, 2))]), flags=cv2.DECOMP_LU)
    weights = solution.astype(np.float32)
    result: Points = _kernel(at, centres) @ weights[:count] + weights[count] + at @ weights[count + 1 :]
    return result


def _kernel(a: Points, b: Points) -> Plane:
    dx = a[:, None, 0] - b[None, :, 0]
    dy = a[:, None, 1] - b[None, :, 1]
    squared = cv2.add(cv2.multiply(dx, dx), cv2.multiply(dy, dy))
    kernel: Plane = cv2.multiply(squared, cv2.log(squared + np.float32(1e-6)))
    return kernel
