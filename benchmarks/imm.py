"""The IMM Face Database: 20 people, six stills each, with 58 landmarks placed by hand.

The landmarks lie in .asf files, relative to the picture's sides, on seven paths: jaw (0 to 12), the person's left eye
(13 to 20, beginning at its outer corner), right eye (21 to 28, the same), brows, mouth (39 to 46, beginning at the
person's right corner) and nose. Which number is which corner was read off the drawn points.
Source: Nordstrom, Larsen, Sierakowski and Stegmann 2004, The IMM Face Database.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

KINDS = ("neutral", "happy", "turned right", "turned left", "spot light", "free")
"""What the digit in a file's name says, from 1."""
RIGHT_EYE, LEFT_EYE = (21, 25), (17, 13)
"""Corners in the order of `psm_stream.align.template`: from the left of the picture to its right."""
MOUTH_CORNERS = (39, 43)


@dataclass(frozen=True)
class Still:
    """One picture. image: [480, 640, 3] RGB. points: [58, 2] px. kind: one of KINDS."""

    name: str
    kind: str
    image: NDArray[np.uint8]
    points: NDArray[np.float64]


def stills(archive: Path) -> Iterator[Still]:
    """Read every still of the zip file, in order of name (person, kind and sex: 01-1m)."""
    with zipfile.ZipFile(archive) as files:
        for entry in sorted(name for name in files.namelist() if name.endswith(".jpg")):
            image = cv2.cvtColor(
                cv2.imdecode(np.frombuffer(files.read(entry), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
            )
            relative = _points(files.read(entry.replace(".jpg", ".asf")).decode("latin-1"))
            name = Path(entry).stem
            sides = np.array(image.shape[1::-1])
            yield Still(name, KINDS[int(name[3]) - 1], np.asarray(image, np.uint8), relative * sides)


def _points(text: str) -> NDArray[np.float64]:
    """The third and fourth column of the lines of points, which have seven columns or, in some files, ten."""
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return np.array([(float(row[2]), float(row[3])) for row in rows if len(row) >= 7])
