"""The demo source: a photographed face that moves by a seeded script, with its true expression in every frame's label.

It needs no camera and no download, and it is the test rig with ground truth. A label is `<name> <intensity>`, as in
"smile 0.62": one of EXPRESSIONS with its intensity from 0 to 1, or "neutral 0.00"; `parse_label` reads it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as PngFile

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError
from psm_stream.sources import Clock, Picture
from psm_stream.sources.demo_landmarks import PHOTO_SHA256
from psm_stream.sources.demo_script import EXPRESSIONS, NEUTRAL, Expression, expression_at, head_pose_at, parse_label
from psm_stream.sources.demo_studio import Studio
from psm_stream.values import Image

__all__ = ["EXPRESSIONS", "NEUTRAL", "DemoSource", "Expression", "parse_label"]

DEFAULT_SIZE_PX: Final = (640, 480)
SMALLEST_SIZE_PX: Final = (160, 120)
DEFAULT_FPS: Final = 30.0


class DemoSource:
    """Endless frames of one moving face.

    Frame i is a function of the seed and i alone: its time in the script is i / fps.
    """

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self.name = "demo"
        self.is_live = False
        self.fps: float | None = settings.fps or DEFAULT_FPS
        self._frame_s = 1.0 / self.fps
        self._seed = settings.seed
        self._width = settings.width or DEFAULT_SIZE_PX[0]
        self._height = settings.height or DEFAULT_SIZE_PX[1]
        self._clock = clock
        self._studio: Studio | None = None
        self._next = 0

    def open(self) -> None:
        """Draw the face, from frame 0 on.

        Raises SourceError: the frame is too small, or scikit-image's photograph is missing or another one.
        """
        if self._width < SMALLEST_SIZE_PX[0] or self._height < SMALLEST_SIZE_PX[1]:
            least = "x".join(map(str, SMALLEST_SIZE_PX))
            raise SourceError(f"the demo cannot be {self._width}x{self._height} px; give at least {least}")
        self._studio = Studio(_photograph(), self._width, self._height, self._seed)
        self._next = 0

    def read(self) -> Picture:
        """Give the next frame, at once; its label is its true expression. Raises SourceError: it is not open."""
        if self._studio is None:
            raise SourceError("the demo is not open; call open() before read()")
        index, self._next = self._next, self._next + 1
        t_source = index * self._frame_s
        expression = expression_at(self._seed, t_source)
        image = self._studio.frame(index, expression, head_pose_at(self._seed, t_source))
        return Picture(image, self._clock(), t_source, expression.label)

    def close(self) -> None:
        """Let go of the drawings; idempotent."""
        self._studio = None


def _photograph() -> Image:
    """scikit-image's astronaut, [512, 512, 3] RGB, read from its folder: importing the package costs 0.4 s."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise SourceError("the demo needs scikit-image for its photograph; pip install scikit-image")
    path = Path(package.origin).parent / "data" / "astronaut.png"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != PHOTO_SHA256:
            raise SourceError(f"the demo's photograph {path} is not the one expected; reinstall scikit-image")
        with PngFile.open(path) as file:
            return np.asarray(file.convert("RGB"))
    except OSError as error:
        raise SourceError(f"the demo's photograph {path}: {error}; reinstall scikit-image") from None
