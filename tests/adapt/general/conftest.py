"""A small store of two people whose faces move as their blendshapes say."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from psm_adapt.data.store import CropStore
from psm_adapt.data.writer import RecordedCrops, write_store
from psm_stream.blendshapes import BLENDSHAPES

MOVING = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight")


def face(rng: np.random.Generator) -> np.ndarray:
    """Landmarks [478, 2] of a made-up face: scattered over the crop, symmetric in pairs."""
    half = rng.uniform((8, 8), (62, 120), (239, 2))
    return np.concatenate([half, np.stack([127 - half[:, 0], half[:, 1]], axis=1)])


def recorded(name: str, count: int, fields: np.ndarray, seed: int) -> RecordedCrops:
    rng = np.random.default_rng(seed)
    shapes = np.full((count, len(BLENDSHAPES)), 0.1)
    for moving in MOVING:
        shapes[:, BLENDSHAPES.index(moving)] = rng.uniform(0, 0.6, count)
    landmarks = face(np.random.default_rng(0)) + np.tensordot(shapes, fields, axes=1)
    arrays = {
        "crops": rng.integers(0, 256, (count, 128, 128, 3), dtype=np.uint8),
        "landmarks": landmarks.astype(np.float32),
        "blendshapes": shapes.astype(np.float32),
    }
    kind: Literal["made", "video"] = "made" if name.startswith("made") else "video"
    return RecordedCrops(name, name.partition("/")[0], arrays, kind, fps=25.0)


@pytest.fixture(scope="session")
def fields() -> np.ndarray:
    """[52, 478, 2] px: how each blendshape moves the landmarks of the made-up people."""
    fields = np.zeros((len(BLENDSHAPES), 478, 2))
    rng = np.random.default_rng(1)
    for moving in MOVING:
        fields[BLENDSHAPES.index(moving)] = rng.normal(0, 4, (478, 2)) * (rng.uniform(size=(478, 1)) < 0.3)
    return fields


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, fields: np.ndarray) -> CropStore:
    folder: Path = tmp_path_factory.mktemp("stores") / "real"
    return write_store(folder, [recorded("ann/1", 300, fields, 2), recorded("bob/1", 260, fields, 3)])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, fields: np.ndarray) -> CropStore:
    folder: Path = tmp_path_factory.mktemp("stores") / "made"
    return write_store(folder, [recorded(f"made-{n}", 12, fields, 10 + n) for n in range(3)])
