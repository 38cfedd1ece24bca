"""The demo's frames: the face with its expression, moved as one with the head, plus a sensor's noise."""

from __future__ import annotations

import math

import cv2
import numpy as np

from psm_stream.sources import demo_landmarks as marks
from psm_stream.sources.demo_face import Face
from psm_stream.sources.demo_script import Expression, HeadPose
from psm_stream.sources.demo_warp import View, coarse_grid, enlarge, make_patch, smooth_step
from psm_stream.values import Image

_SHOWN_HEIGHT = 208.0  # photograph pixels from the frame's top to its bottom: as near as a webcam sees a face
_SHOWN_WIDTH = 160.0  # at least
_MIDDLE_Y = 107.0
_MARGIN_PX = 48  # canvas around the frame, for what moves into it
_SWAY_STEP_PX = 16
_NOISE_DEVIATION = 1.8  # of 255
_BLACK_LEVEL = 5  # noise can only be added, so the picture is darkened by the noise's mean first
_NOISE_SPARE_PX = 64  # each frame's noise is cut from a sheet so much larger than the frame, at a place drawn for it


class Studio:
    """Makes any frame, in any order."""

    def __init__(self, photo: Image, width: int, height: int, seed: int) -> None:
        """photo: [512, 512, 3] RGB. width, height: of the frames, px. Takes 0.25 s at 640 x 480."""
        scale = min(height / _SHOWN_HEIGHT, width / _SHOWN_WIDTH)
        left, top = marks.HEAD_CENTRE[0] - width / scale / 2, _MIDDLE_Y - height / scale / 2
        margin = _MARGIN_PX / scale
        canvas = View(scale, left - margin, top - margin, width + 2 * _MARGIN_PX, height + 2 * _MARGIN_PX)
        self._face = Face(canvas, cv2.subtract(photo, np.full_like(photo, _BLACK_LEVEL)))
        self._sway = _Sway(View(scale, left, top, width, height), canvas)
        self._frame = slice(_MARGIN_PX, _MARGIN_PX + height), slice(_MARGIN_PX, _MARGIN_PX + width)
        self._seed = seed
        self._noise = _noise_sheet(width + _NOISE_SPARE_PX, height + _NOISE_SPARE_PX, seed)

    def frame(self, index: int, expression: Expression, pose: HeadPose) -> Image:
        """Returns [height, width, 3] RGB, unlike any other frame."""
        canvas = self._face.show(expression)
        image = canvas[self._frame].copy()
        self._sway.move(canvas, pose, image)
        height, width, _ = image.shape
        row, col = np.random.default_rng([self._seed, index]).integers(0, _NOISE_SPARE_PX, 2)
        noisy: Image = cv2.add(image, self._noise[row : row + height, col : col + width], dst=image)
        return noisy


class _Sway:
    """Moves the head in the frame; the body follows less and less, the background stays."""

    def __init__(self, frame: View, canvas: View) -> None:
        self._canvas = canvas
        (x, y), (radius_x, radius_y) = marks.HEAD_CENTRE, marks.HEAD_RADII
        reach = 1.36
        self._patch = make_patch(
            frame, x - reach * radius_x, y - reach * radius_y, x + reach * radius_x, y + reach * radius_y
        )
        self._x, self._y = coarse_grid(self._patch, _SWAY_STEP_PX)
        away = np.hypot((self._x - x) / radius_x, (self._y - y) / radius_y)
        self._weight = 1.0 - smooth_step((away - 1.0) / (reach - 1.0))

    def move(self, canvas: Image, pose: HeadPose, image: Image) -> None:
        """Draw the moved head into the frame `image`, which shows the canvas unmoved."""
        # back from the frame to the canvas: shift, turn and zoom undone about the neck
        neck_x, neck_y = marks.NECK
        x = self._x - neck_x - pose.right * marks.HEAD_WIDTH
        y = self._y - neck_y - pose.down * marks.HEAD_WIDTH
        cosine, sine = math.cos(pose.roll) / pose.zoom, math.sin(pose.roll) / pose.zoom
        read_x = self._x + self._weight * (neck_x + cosine * x + sine * y - self._x)
        read_y = self._y + self._weight * (neck_y - sine * x + cosine * y - self._y)
        view = self._canvas
        maps = np.dstack([(read_x - view.x0) * view.scale, (read_y - view.y0) * view.scale]).astype(np.float32)
        fine = enlarge(maps, self._patch, _SWAY_STEP_PX, cv2.INTER_LINEAR)
        image[self._patch.rows, self._patch.cols] = cv2.remap(
            canvas, fine, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )


def _noise_sheet(width: int, height: int, seed: int) -> Image:
    """Grain of a sensor, [height, width, 3], around _BLACK_LEVEL."""
    rng = np.random.default_rng([seed, 2**32])  # an index that no frame reaches
    grain = cv2.GaussianBlur(rng.standard_normal((height, width, 3), np.float32), (0, 0), 0.6)
    sheet: Image = cv2.convertScaleAbs(grain, alpha=_NOISE_DEVIATION / grain[:64].std(), beta=_BLACK_LEVEL)
    return sheet
