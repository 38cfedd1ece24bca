"""Aligned crops to calibrate and to measure with: of a photograph, of a crop store, or of a folder of images.

All of them come at the encoder's size, [N, 64, 64, 3] uint8 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from psm_export.facecycle import SIZE_PX
from psm_stream.errors import ConfigError

Crops = NDArray[np.uint8]

MOST = 96
"""Crops taken from a store or a folder, evenly spaced; half to calibrate, half to measure."""
_FEWEST = 8
STORE_CROPS = "crops.npy"
"""The array of a crop store: uint8 [N, S, S, 3] RGB, S at least 64."""

# (side of a square of the photograph in px, enlarge, then shrink by averaging), which gives 64 px
_SCALES = ((96, 2, 3), (112, 4, 7), (128, 1, 2))
_FACE_CENTRE = (116, 222)
"""Row and column of the face in skimage's astronaut photograph, px."""
_SHIFTS = ((0, 0), (-4, 3), (3, -5), (5, 4))
_EXPOSURES = ((8, 0), (5, -10), (10, 12), (7, 25))
"""(contrast in eighths, grey levels added)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Crops of which none serves two ends. described: what the measured ones are, in words."""

    calibration: Crops
    measured: Crops
    described: str


def photograph(mirrored: bool = False) -> Crops:
    """A real face cropped about as alignment does: sizes, places and exposures vary. Returns [12, 64, 64, 3].

    Made with whole numbers alone, so that every machine has the same.
    """
    import skimage.data

    picture = skimage.data.astronaut().astype(np.int64)
    crops = []
    for side, up, down in _SCALES:
        for (row, column), (contrast, added) in zip(_SHIFTS, _EXPOSURES, strict=True):
            top, left = _FACE_CENTRE[0] + row - side // 2, _FACE_CENTRE[1] + column - side // 2
            square = picture[top : top + side, left : left + side].repeat(up, axis=0).repeat(up, axis=1)
            blocks = square.reshape(SIZE_PX, down, SIZE_PX, down, 3)
            crop = blocks.sum(axis=(1, 3)) // down**2
            crops.append(np.clip(128 + (crop - 128) * contrast // 8 + added, 0, 255))
    stack = np.stack(crops).astype(np.uint8)
    return np.ascontiguousarray(stack[:, :, ::-1]) if mirrored else stack


def sample(place: Path | None) -> Sample:
    """Take crops from a crop store or a folder of square images, or from the photograph when there is no place.

    Raises ConfigError: the place is neither, holds fewer than 8 crops, or one that is no aligned crop.
    """
    if place is None:
        return Sample(photograph(), photograph(mirrored=True), "mirrored crops of a photograph")
    if not place.is_dir():
        raise ConfigError(f"--crops {place}: no such folder; give a crop store or a folder of aligned, square images")
    crops = _of_store(place / STORE_CROPS) if (place / STORE_CROPS).is_file() else _of_images(place)
    return Sample(crops[::2], crops[1::2], f"other crops of {place.name}")


def _of_store(path: Path) -> Crops:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--crops: cannot read {path}: {' '.join(str(error).split())}") from None
    if stored.ndim != 4 or stored.shape[3] != 3 or stored.dtype != np.uint8:
        raise ConfigError(f"--crops: {path} is {stored.dtype} {list(stored.shape)}, expected uint8 [N, S, S, 3]")
    return np.stack([_scaled(np.asarray(stored[index]), path) for index in _spread(len(stored), path)])


def _of_images(folder: Path) -> Crops:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"))
    return np.stack([_scaled(_picture(paths[index]), paths[index]) for index in _spread(len(paths), folder)])


def _picture(path: Path) -> Crops:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ConfigError(f"--crops: cannot read {path}: {' '.join(str(error).split())}") from None


def _spread(count: int, place: Path) -> list[int]:
    """Indices of at most `MOST` of so many crops, evenly spaced."""
    if count < _FEWEST:
        raise ConfigError(f"--crops: {place} holds {count} crops, at least {_FEWEST} are needed")
    return [int(index) for index in np.linspace(0, count - 1, min(count, MOST))]


def _scaled(crop: Crops, place: Path) -> Crops:
    """Bring a crop to the encoder's size as the live path does, with an area filter."""
    height, width = crop.shape[:2]
    if height != width or height < SIZE_PX:
        raise ConfigError(
            f"--crops: {place} holds a picture of {width}x{height} px, which is no aligned crop (a square of {SIZE_PX} "
            "px or more); make a crop store with psm-adapt crops"
        )
    if height == SIZE_PX:
        return crop
    scaled: Crops = cv2.resize(crop, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
    return scaled
