"""Crop stores of faces whose expressions are made up: blendshapes and landmarks that take turns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from psm_adapt.data.store import CropStore
from psm_adapt.data.writer import RecordedCrops, write_store
from psm_stream.blendshapes import BLENDSHAPES

SHOWS = {"neutral": (), "smile": ("mouthSmileLeft", "mouthSmileRight"), "jaw": ("jawOpen",), "brow": ("browInnerUp",)}


def blendshapes_of(expressions: Sequence[str], seed: int = 0) -> np.ndarray:
    """[n, 52]: what the expression shows is near 0.8, the rest near 0.05."""
    values = np.random.default_rng(seed).uniform(0.03, 0.07, (len(expressions), len(BLENDSHAPES)))
    for row, expression in zip(values, expressions, strict=True):
        row[[BLENDSHAPES.index(shape) for shape in SHOWS[expression]]] += 0.75
    return values.astype(np.float32)


def recording(name: str, expressions: Sequence[str], fps: float = 5.0, **arrays: np.ndarray | None) -> RecordedCrops:
    """arrays: in the place of what is made up; None leaves a column out."""
    count = len(expressions)
    seed = sum(name.encode())
    rng = np.random.default_rng(seed)
    columns = {
        "crops": rng.integers(0, 256, (count, 128, 128, 3), np.uint8),
        "t": np.arange(count) / fps,
        "landmarks": rng.uniform(20, 100, (count, 478, 2)).astype(np.float32),
        "confidence": np.full(count, 0.99, np.float32),
        "blendshapes": blendshapes_of(expressions, seed),
    }
    there = {column: array for column, array in {**columns, **arrays}.items() if array is not None}
    return RecordedCrops(name, name.partition("/")[0], there)


def store_of(folder: Path, *recordings: RecordedCrops) -> CropStore:
    return write_store(folder, list(recordings))


def turns(
    rng: np.random.Generator, count: int, often: Sequence[str] = ("neutral", "smile", "jaw", "brow")
) -> list[str]:
    """Expressions that are held for 2 to 5 faces each."""
    said: list[str] = []
    while len(said) < count:
        said += [str(rng.choice(often))] * int(rng.integers(2, 6))
    return said[:count]
