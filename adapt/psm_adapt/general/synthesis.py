"""Synthetic faces: real crops warped by their landmarks to other shapes of face and other expressions, as short clips.

Each clip is one new person: somebody's frames, their face's shape taken part of the way to another person's and changed
at random, their skin mixed with another person's. Its first picture is the new person's resting face. Then expressions
come and go by known curves: displacements of `expressions.ExpressionBasis`, and an inside of the mouth where it opens.
What the result is called is up to the teacher, which looks at the finished pictures (`make`): a warp that failed is
labelled as what it looks like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.store import CropStore, Recording
from psm_adapt.general.expressions import ExpressionBasis, learn_expressions
from psm_adapt.general.morph import MARGIN_PX, Mouth, open_mouth, skin_mask, thin_plate, warped, with_margin
from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.values import Image

Array = NDArray[np.float64]

FRAMES = 26
"""Pictures of a clip after the resting face."""
FPS = 25.0
_MOVES: tuple[tuple[str, ...], ...] = (
    ("browInnerUp",),
    ("browOuterUpLeft", "browOuterUpRight"),
    ("browDownLeft", "browDownRight"),
    ("eyeSquintLeft", "eyeSquintRight"),
    ("eyeBlinkLeft", "eyeBlinkRight"),
    ("mouthUpperUpLeft", "mouthUpperUpRight"),
    ("mouthSmileLeft", "mouthSmileRight"),
    ("mouthDimpleLeft", "mouthDimpleRight"),
    ("mouthLowerDownLeft", "mouthLowerDownRight"),
    ("mouthPressLeft", "mouthPressRight"),
    ("mouthStretchLeft", "mouthStretchRight"),
    ("mouthPucker",),
    ("mouthFunnel",),
    ("mouthRollLower", "mouthRollUpper"),
    ("mouthShrugLower", "mouthShrugUpper"),
    ("mouthLeft",),
    ("mouthRight",),
    ("jawOpen",),
)
"""Blendshapes that move together in an expression."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The recipe of one clip.

    rows: of the store, in order of time. rest_row: that of the resting face. shape: [478, 2] px added to the landmarks
    in all frames. keeps: how much of the frames' own movement about their median is kept, 0..1. curves:
    [len(rows), 52] change of each blendshape. skin_row: crop of the person whose skin is mixed in, by the weight
    skin_mix, 0..1. tint: [3] factors on RGB.
    """

    rows: NDArray[np.int64]
    rest_row: int
    shape: Array
    keeps: float
    curves: Array
    skin_row: int
    skin_mix: float
    tint: Array
    mouth: Mouth


class Synthesis:
    """Draws recipes from a store of real faces, and pictures from recipes. The same seed gives the same clips.

    Args:
        store: Real faces with landmarks and blendshapes. Raises StoreError: it has none to learn expressions from.
    """

    def __init__(self, store: CropStore) -> None:
        self.store = store
        self.basis: ExpressionBasis = learn_expressions(store)
        self.resting: dict[str, Array] = {person: _median(store, person) for person in store.people}

    def clip(self, seed: int, number: int) -> Clip:
        """Draw the recipe of a clip. People are drawn alike, however much there is of each."""
        rng = np.random.default_rng([seed, number])
        person, other = (str(name) for name in rng.choice(self.store.people, 2))
        rows = self._rows(rng, person)
        shape = rng.uniform() * (self.resting[other] - self.resting[person])
        shape = shape + rng.uniform() * _bent(self.resting[person], rng)
        mixes = other != person and rng.uniform() < 0.6
        return Clip(
            rows=rows,
            rest_row=self._most_typical[person],
            shape=shape,
            keeps=float(rng.choice([1.0, 1.0, 0.5, 0.2])),
            curves=_curves(rng, len(rows)),
            skin_row=self._most_typical[other],
            skin_mix=float(rng.uniform(0, 0.6)) if mixes else 0.0,
            tint=np.exp(rng.normal(0, 0.06, 3)),
            mouth=_mouth(rng),
        )

    def pictures(self, clip: Clip) -> Iterator[Image]:
        """Draw the clip's pictures, [256, 256, 3] RGB each: the resting face, then one for each row."""
        yield self._picture(clip, clip.rest_row, self._points(clip.rest_row) + clip.shape)
        sources = np.stack([self._points(row) for row in clip.rows])
        middle = np.median(sources, axis=0)
        for row, source, curve in zip(clip.rows, sources, clip.curves, strict=True):
            target = middle + clip.keeps * (source - middle) + clip.shape + self.basis.displacement(curve)
            yield self._picture(clip, int(row), target)

    def _picture(self, clip: Clip, row: int, target: Array) -> Image:
        """Draw one crop with its landmarks brought to other places, target [478, 2] px of the picture."""
        source = self._points(row)
        stretched = warped(with_margin(self.store.crops[row]), thin_plate(source, target))
        picture = open_mouth(stretched, source, target, clip.mouth)
        if clip.skin_mix:
            weight: NDArray[np.float32] = np.float32(clip.skin_mix) * skin_mask(target)
            skin = with_margin(self.store.crops[clip.skin_row])
            other = warped(skin, thin_plate(self._points(clip.skin_row), target))
            picture = picture * (1 - weight) + other * weight
        return np.clip(picture * clip.tint, 0, 255).astype(np.uint8)

    def _points(self, row: int) -> Array:
        """Landmarks of a row, [478, 2] px of a picture with its margin."""
        points: Array = self.store.landmarks[row].astype(np.float64) + MARGIN_PX
        return points

    def _rows(self, rng: np.random.Generator, person: str) -> NDArray[np.int64]:
        """Draw consecutive rows, or every second or third, of one recording of a person."""
        recordings = [one for one in self.store.recordings if one.person == person]
        one: Recording = recordings[int(rng.integers(len(recordings)))]
        stride = int(rng.integers(1, 4))
        length = min(FRAMES, max(1, one.count // stride))
        first = one.start + int(rng.integers(0, one.count - (length - 1) * stride))
        return np.arange(first, first + length * stride, stride)

    @cached_property
    def _most_typical(self) -> dict[str, int]:
        """For each person the row that is nearest to their resting face."""
        typical = {}
        for person, resting in self.resting.items():
            rows = self.store.rows(people=[person])
            distance = np.abs(self.store.landmarks[rows] - resting).mean(axis=(1, 2))
            typical[person] = int(rows[int(np.nanargmin(distance))])
        return typical


def _median(store: CropStore, person: str) -> Array:
    points: Array = np.nanmedian(store.landmarks[store.rows(people=[person])], axis=0).astype(np.float64)
    return points


def _bent(resting: Array, rng: np.random.Generator) -> Array:
    """Bend a face's shape by a random quadratic of the place, a few px at the cheeks: [478, 2] px."""
    place = (resting - resting.mean(axis=0)) / 64
    x, y = place[:, 0], place[:, 1]
    terms = np.stack([x, y, x**2, y**2, x * y], axis=1)
    bend: Array = terms @ (rng.normal(0, 1, (5, 2)) * np.array([2.5, 2.5, 1.5, 1.5, 1.5])[:, None])
    return bend


def _curves(rng: np.random.Generator, count: int) -> Array:
    """Draw when which blendshapes change and by how much: two to five moves, [count, 52]. A quarter is one-sided."""
    curves = np.zeros((count, len(BLENDSHAPES)))
    for move in rng.permutation(len(_MOVES))[: int(rng.integers(2, 6))]:
        curve = rng.uniform(0.2, 1.0) * _bumps(rng, count)
        weaker = rng.choice(["", "", "", "", "", "", "Left", "Right"])
        for name in _MOVES[move]:
            is_weaker = bool(weaker) and len(_MOVES[move]) == 2 and name.endswith(weaker)
            curves[:, BLENDSHAPES.index(name)] += curve * (0.15 if is_weaker else 1.0)
    return curves


def _bumps(rng: np.random.Generator, count: int) -> Array:
    """One or two smooth bumps, 0..1 [count]."""
    frame = np.arange(count)
    curve = np.zeros(count)
    for _ in range(int(rng.integers(1, 3))):
        middle, width, height = rng.uniform(0, count), rng.uniform(5, 16), rng.uniform(0.4, 1)
        curve = np.maximum(curve, height * np.exp(-0.5 * ((frame - middle) / width) ** 4))
    return curve


def _mouth(rng: np.random.Generator) -> Mouth:
    return Mouth(
        inside=np.array([rng.uniform(15, 70), rng.uniform(5, 35), rng.uniform(5, 35)]),
        enamel=np.array([1, 0.95, 0.88]) * rng.uniform(120, 220),
        teeth=float(rng.uniform(0.15, 0.4)) if rng.uniform() < 0.6 else 0.0,
    )


def numbered(clips: Sequence[int]) -> list[str]:
    """Names of clips, which stand for people: "made-00007"."""
    return [f"made-{number:05d}" for number in clips]
