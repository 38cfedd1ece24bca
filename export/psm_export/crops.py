"""Aligned crops to calibrate and to measure with, at an encoder's size: which place gives them, and who gets which.

Crops that calibrate are never those that measure. Of several people some calibrate and others measure; of one person
they come from different stretches of time, since neighbouring frames are near copies. `psm_export.taking` reads the
places, and `photograph` is what every bundle carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psm_export import taking
from psm_export.model import Crops
from psm_stream.bundle import Alignment
from psm_stream.errors import ConfigError

CALIBRATING = 256
MEASURED = 512
"""At most so many crops calibrate, and are measured over."""
_FEWEST = 8
_STRETCHES = 8
"""A person's time is cut into so many stretches, which calibrate and measure in turn."""
_GAP = 0.1
"""Share of a stretch that calibrates that is left out at its end: the next stretch begins with near copies of it."""

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


def sample(place: Path | None, size_px: int, alignment: Alignment) -> Sample:
    """Take crops [N, size_px, size_px, 3] of a place: at most 256 that calibrate and 512 that are measured.

    place: a crop store, a folder of aligned square images, a recorded session, or a video, which is aligned here; None:
    the demo's face, a photograph that moves. alignment: what the encoder wants of a crop.
    Raises ConfigError: the place is none of these, or has fewer than 8 crops. SourceError, SessionError: a video or
    session cannot be read.
    """
    taken = taking.demo(size_px, alignment) if place is None else taking.of_place(place, size_px, alignment)
    if len(taken) < _FEWEST:
        where = "the demo" if place is None else f"--crops {place}"
        raise ConfigError(f"{where} holds {len(taken)} crops of a face, at least {_FEWEST} are needed")
    people = list(dict.fromkeys(taken.people))
    if len(people) > 1:
        calibrating, measured, words = _by_person(taken.people, people)
    else:
        calibrating, measured = _by_time(np.arange(len(taken)))
        words = "other stretches of time than those that calibrated"
    measured = _spread(measured, MEASURED)
    described = "; ".join((f"{len(measured)} crops of {taken.described}: {words}", *taken.warnings))
    return Sample(taken.at(_spread(calibrating, CALIBRATING)), taken.at(measured), described)


def photograph(size_px: int = 64, mirrored: bool = False) -> Crops:
    """A real face cropped about as alignment does: sizes, places and exposures vary. Returns [12, size_px, size_px, 3].

    Made with whole numbers alone, so that every machine has the same. Each pixel is the mean of what it covers.
    """
    import skimage.data

    picture = skimage.data.astronaut().astype(np.int64)
    crops = []
    for side, up, down in _SCALES:
        for (row, column), (contrast, added) in zip(_SHIFTS, _EXPOSURES, strict=True):
            top, left = _FACE_CENTRE[0] + row - side // 2, _FACE_CENTRE[1] + column - side // 2
            square = picture[top : top + side, left : left + side]
            crop = _averaged(square, *((up, down) if size_px == 64 else (size_px, side)))
            crops.append(np.clip(128 + (crop - 128) * contrast // 8 + added, 0, 255))
    stack = np.stack(crops).astype(np.uint8)
    return np.ascontiguousarray(stack[:, :, ::-1]) if mirrored else stack


def _averaged(square: NDArray[np.int64], up: int, down: int) -> NDArray[np.int64]:
    """Enlarge a square `up` times by repeating, then shrink it `down` times by averaging, rounding down."""
    side = len(square) * up // down
    begins, ends = np.arange(len(square)) * up, np.arange(side)[:, None] * down
    # how much of each pixel lies in each new one, in pixels of the enlarged picture
    covers = np.clip(np.minimum(begins + up, ends + down) - np.maximum(begins, ends), 0, None)
    both = np.einsum("ar,rcx,bc->abx", covers, square, covers, optimize=["einsum_path", (0, 1), (0, 1)])
    averaged: NDArray[np.int64] = both // down**2
    return averaged


def _by_person(of: Sequence[str], people: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Every third person is measured, from the second on; as many crops of each as there can be."""
    measured = people[1::3]
    calibrating = [person for person in people if person not in measured]
    names = np.array(of)
    sides = []
    for group, most in ((calibrating, CALIBRATING), (measured, MEASURED)):
        of_each = [_spread(np.flatnonzero(names == person), -(-most // len(group))) for person in group]
        sides.append(np.concatenate(of_each))
    who = "one person, who" if len(measured) == 1 else f"{len(measured)} people, none of whom"
    is_not = "is not" if len(measured) == 1 else "is"
    words = f"{who} {is_not} among the {len(calibrating)} that calibrated"
    return sides[0], sides[1], words


def _by_time(indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    stretches = np.array_split(indices, _STRETCHES if len(indices) >= 10 * _STRETCHES else 2)
    calibrating = [stretch[: len(stretch) - int(_GAP * len(stretch))] for stretch in stretches[::2]]
    return np.concatenate(calibrating), np.concatenate(stretches[1::2])


def _spread(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of some indices, evenly spaced."""
    places = np.linspace(0, len(indices) - 1, min(len(indices), most)).astype(int)
    some: NDArray[np.int64] = indices[places]
    return some
