"""A folder of images, in natural order of their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError
from psm_stream.redact import name_of
from psm_stream.sources import Clock, Picture, Skipped

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_NOMINAL_FPS = 30.0


class ImagesSource:
    """Every image of a folder, one after another at `fps` pictures a second (30 unless set); others are left out.

    An image that cannot be read is skipped (cause "decode"). Images may differ in size; 16-bit ones become 8-bit, and
    the camera's orientation (EXIF) is followed.
    """

    is_live = False

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self.name = name_of(settings.path)
        self.fps: float | None = settings.fps or _NOMINAL_FPS
        self._settings = settings
        self._clock = clock
        self._pictures: Iterator[Picture | Skipped] = iter(())

    def open(self) -> None:
        """Raises SourceError: there is no such folder, or no image in it."""
        folder = Path(self._settings.path)
        if not self._settings.path or not folder.is_dir():
            raise SourceError(f"there is no folder '{self.name}'; name a folder of images with --source PATH")
        try:
            files = image_files(folder)
        except OSError as error:
            raise SourceError(f"folder {self.name} cannot be read ({error.strerror}); check its permissions") from None
        if not files:
            raise SourceError(f"folder {self.name} has no image in it; expected {', '.join(sorted(SUFFIXES))}")
        self._pictures = self._play(files)

    def read(self) -> Picture | Skipped | None:
        """Load the next image; t_capture is when that was done."""
        return next(self._pictures, None)

    def close(self) -> None:
        """Forget the list of files."""
        self._pictures = iter(())

    def _play(self, files: list[Path]) -> Iterator[Picture | Skipped]:
        step = 1.0 / (self._settings.fps or _NOMINAL_FPS)
        while True:
            for index, file in enumerate(files):
                image = _load(file)
                if image is None:
                    yield Skipped("decode")
                else:
                    yield Picture(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self._clock(), index * step)
            if not self._settings.loop:
                return


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder, in the order in which they are read. Raises OSError."""
    files = (entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file())
    return sorted(files, key=natural_order)


def natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key by name in which frame10 follows frame9, whatever the case."""
    parts = re.split(r"(\d+)", file.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts if part], file.name


def _load(file: Path) -> cv2.typing.MatLike | None:
    """[H, W, 3] BGR, or None. Not cv2.imread, which cannot open names beyond ASCII on Windows."""
    try:
        encoded = np.fromfile(file, np.uint8)
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    except (OSError, cv2.error):
        return None
