"""Action units nobody has coded: proxies, from blendshapes where the aligner gives them, else from landmarks.

They say what a face does, in words that people know (FACS: Ekman, Friesen 1978), and they are no FACS coding: a
blendshape is MediaPipe's guess, and a formula sees nothing but where landmarks lie. docs/clusters.md says how well each
formula follows its blendshape within a person. Both sources give the same names in the same order.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.values import EYE_DISTANCE, AlignedFace


@dataclass(frozen=True, slots=True)
class Unit:
    """One action unit, or two that a blendshape cannot tell apart.

    name: FACS's number. meaning: FACS's words. shapes: the blendshapes whose mean stands for it, 0..1.
    formula: what stands for it where there are none, in eye distances of the crop, x to the right of the picture and
    y down, of the `PLACES` named; "" where landmarks cannot tell.
    """

    name: str
    meaning: str
    shapes: tuple[str, ...]
    formula: str


PLACES = {
    "eye corners": (33, 133, 362, 263),
    "irises": (468, 473),
    "upper lids": (158, 159, 160, 385, 386, 387),
    "lower lids": (144, 145, 153, 373, 374, 380),
    "inner brows": (55, 107, 285, 336),
    "outer brows": (63, 105, 293, 334),
    "lower brows": (52, 55, 65, 282, 285, 295),
    "nose base": (2,),
    "upper lip": (13, 82, 312),
    "upper lip, right": (82,),
    "upper lip, left": (312,),
    "lower lip": (14, 87, 317),
    "lower lip's bottom": (17,),
    "lip middles": (0, 17),
    "corners": (61, 291),
    "right corner": (61,),
    "left corner": (291,),
    "chin": (152,),
}
"""Places of a face that formulae name, and MediaPipe's landmarks whose mean each is.

Right is the person's right, left in the picture; lips are their inner edges, corners those of the mouth.
"""


def _both(shape: str) -> tuple[str, str]:
    return (f"{shape}Left", f"{shape}Right")


UNITS = (
    Unit("AU1", "inner brow raiser", ("browInnerUp",), "y(eye corners) - y(inner brows)"),
    Unit("AU2", "outer brow raiser", _both("browOuterUp"), "y(lower lids) - y(outer brows)"),
    Unit("AU4", "brow lowerer", _both("browDown"), "y(lower brows) - y(lower lids)"),
    Unit("AU5", "upper lid raiser", _both("eyeWide"), "y(irises) - y(upper lids)"),
    Unit(
        *("AU6+7", "cheek raiser, lid tightener", _both("eyeSquint")),
        "0.5 y(eye corners) + 0.5 y(upper lids) - y(lower lids)",
    ),
    Unit(
        *("AU10", "upper lip raiser", _both("mouthUpperUp")),
        "0.5 x(upper lip, left) - 0.5 x(upper lip, right) + 0.5 y(eye corners) - 0.5 y(upper lip)",
    ),
    Unit(
        *("AU12", "lip corner puller", _both("mouthSmile")),
        "x(left corner) - x(right corner) + 0.5 y(nose base) + 0.5 y(lip middles) - y(corners)",
    ),
    Unit("AU14", "dimpler", _both("mouthDimple"), ""),
    Unit("AU15", "lip corner depressor", _both("mouthFrown"), "y(corners) - y(lip middles)"),
    Unit("AU16", "lower lip depressor", _both("mouthLowerDown"), "y(lower lip) - y(corners)"),
    Unit("AU17", "chin raiser", ("mouthShrugLower",), "y(eye corners) + y(chin) - 2 y(lower lip's bottom)"),
    Unit(
        *("AU18", "lip pucker", ("mouthPucker",)),
        "x(right corner) - x(left corner) + y(lower lip's bottom) - y(lower lip)",
    ),
    Unit(
        *("AU24", "lip pressor", _both("mouthPress")),
        "0.25 x(left corner) - 0.25 x(right corner) + y(lower lip) - y(lower lip's bottom)",
    ),
    Unit("AU26", "jaw drop", ("jawOpen",), "y(lower lip) - y(upper lip)"),
    Unit("AU45", "eyes closed", _both("eyeBlink"), "y(upper lids) - y(lower lids)"),
)
UNIT_NAMES = tuple(unit.name for unit in UNITS)

Source = Literal["blendshapes", "landmarks"]
_TERM = re.compile(r"(?P<sign>[+-]) (?P<times>[\d.]+ )?(?P<axis>[xy])\((?P<place>[^()]+)\) ?")


def source_of(face: AlignedFace) -> Source:
    """Say what a face's units are measured from."""
    return "landmarks" if face.blendshapes is None else "blendshapes"


def measure(face: AlignedFace) -> NDArray[np.float32]:
    """Measure a face's action units.

    Returns [U] float32 in the order of UNITS. From blendshapes: 0..1. From landmarks: in eye distances of the face's
    template, so the same by any template, and not 0 in a resting face; NaN where landmarks cannot tell.
    """
    if face.blendshapes is not None:
        return from_blendshapes(face.blendshapes)
    points, _ = _weights()
    x, y = face.landmarks[points].T
    across, down = (row[0] * x + row[1] * y for row in face.to_crop)  # formulae are differences: the shift is nothing
    return _by_formula(across, down, face.eye_distance * face.crop.shape[0])


def from_blendshapes(blendshapes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the blendshapes [52] that stand for each unit: [U]."""
    columns, starts, counts = _columns()
    means: NDArray[np.float32] = np.add.reduceat(blendshapes[columns], starts) / counts
    return means


def from_landmarks(landmarks: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Measure units [U] of landmarks [478, 2], px of a crop of that size by our own template."""
    points, _ = _weights()
    across, down = landmarks[points].T
    return _by_formula(across, down, EYE_DISTANCE * size_px)


def _by_formula(across: NDArray[np.float32], down: NDArray[np.float32], eyes_px: float) -> NDArray[np.float32]:
    """Put in the places [P] of the formulae' landmarks, px of the crop. eyes_px: the template's eye distance."""
    _, weights = _weights()
    sums: NDArray[np.float64] = (weights[:, 0] * across + weights[:, 1] * down).sum(axis=1)
    measured: NDArray[np.float32] = (sums / eyes_px).astype(np.float32)
    return measured


@functools.cache
def _columns() -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Columns of all units' blendshapes, one unit after the other, where each unit begins, and how many it has."""
    columns = [BLENDSHAPES.index(shape) for unit in UNITS for shape in unit.shapes]
    counts = [len(unit.shapes) for unit in UNITS]
    return np.array(columns), np.cumsum([0, *counts[:-1]]), np.array(counts, np.float32)


@functools.cache
def _weights() -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The formulae as numbers: landmarks [P] that any of them names, and weights [U, 2, P] of their x and y."""
    points = sorted({point for place in PLACES.values() for point in place})
    weights = np.zeros((len(UNITS), 2, len(points)))
    for number, unit in enumerate(UNITS):
        if not unit.formula:
            weights[number] = np.nan
        for term in _TERM.finditer(f"+ {unit.formula}"):
            axis, place = "xy".index(term["axis"]), PLACES[term["place"]]
            for point in place:
                weights[number, axis, points.index(point)] += float(term["sign"] + (term["times"] or "1")) / len(place)
    return np.array(points), weights
