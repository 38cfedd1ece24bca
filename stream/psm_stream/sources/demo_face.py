"""The demo's face with any expression: the enlarged photograph, and a strip of drawings for each expression.

Drawing a warped face takes milliseconds, so each expression is drawn once at evenly spaced strengths when the demo
opens; a frame then mixes the two drawings nearest to its strength, which lie about two pixels of motion apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from psm_stream.sources import demo_landmarks as marks
from psm_stream.sources.demo_eyes import Brows, Lids
from psm_stream.sources.demo_mouth import Mouth
from psm_stream.sources.demo_script import NEUTRAL, Expression
from psm_stream.sources.demo_warp import Patch, View
from psm_stream.values import Image

_LEVELS = {"blink": 10, "brow_raise": 8, "smile": 13, "jaw_drop": 20}


@dataclass(frozen=True, slots=True)
class _Strip:
    """One patch at evenly spaced strengths from 0 to 1."""

    patch: Patch
    drawings: tuple[Image, ...]

    def lay(self, strength: float, canvas: Image) -> None:
        at = strength * (len(self.drawings) - 1)
        first = min(int(at), len(self.drawings) - 2)
        second = at - first
        mixed = cv2.addWeighted(self.drawings[first], 1.0 - second, self.drawings[first + 1], second, 0.0)
        canvas[self.patch.rows, self.patch.cols] = mixed


class Face:
    """Shows the photograph's face with an expression, in the whole canvas."""

    def __init__(self, view: View, photo: Image) -> None:
        """photo: [512, 512, 3] RGB. Draws all strips, 0.2 s at 640 x 480."""
        canvas = _enlarge(view, photo)
        mouth = Mouth(view, canvas)
        smile = _draw("smile", mouth.patch, lambda strength: mouth.draw(strength, 0.0))
        smile.lay(0.0, canvas)
        self.at_rest = canvas
        brows = Brows(view, canvas)
        eyes = [
            Lids(view, canvas, marks.LEFT_EYE_UPPER, marks.LEFT_EYE_LOWER),
            Lids(view, canvas, marks.RIGHT_EYE_UPPER, marks.RIGHT_EYE_LOWER),
        ]
        self._strips = {
            NEUTRAL: [],
            "blink": [_draw("blink", eye.patch, eye.draw) for eye in eyes],
            "brow_raise": [_draw("brow_raise", brows.patch, brows.draw)],
            "smile": [smile],
            "jaw_drop": [_draw("jaw_drop", mouth.patch, lambda strength: mouth.draw(0.0, strength))],
        }

    def show(self, expression: Expression) -> Image:
        """The canvas [H, W, 3] RGB with this expression; not to be written to."""
        strips = self._strips[expression.name]
        if not strips:
            return self.at_rest
        canvas = self.at_rest.copy()
        for strip in strips:
            strip.lay(expression.intensity, canvas)
        return canvas


def _draw(name: str, patch: Patch, draw: Callable[[float], Image]) -> _Strip:
    return _Strip(patch, tuple(draw(float(strength)) for strength in np.linspace(0.0, 1.0, _LEVELS[name])))


def _enlarge(view: View, photo: Image) -> Image:
    scale = view.scale
    place = np.array([[scale, 0.0, -view.x0 * scale], [0.0, scale, -view.y0 * scale]])
    large = cv2.warpAffine(
        photo, place, (view.width, view.height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    # some of the sharpness that a camera would have at this size
    sharp: Image = cv2.addWeighted(large, 1.3, cv2.GaussianBlur(large, (0, 0), scale / 1.5), -0.3, 0.0)
    return sharp
