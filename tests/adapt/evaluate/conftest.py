"""What the tests of evaluation share: stores whose arrays are given, and signals that last a while in time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from psm_adapt.data.store import CropStore
from psm_adapt.data.writer import RecordedCrops, write_store
from psm_adapt.evaluate.blendshape_labels import PROXIES
from psm_stream.blendshapes import BLENDSHAPES

FPS = 25.0


def recorded(name: str, person: str, count: int, **arrays: np.ndarray) -> RecordedCrops:
    """Return a recording whose crops are noise drawn from its name."""
    draw = np.random.default_rng(list(name.encode()))
    crops = draw.integers(0, 256, (count, 128, 128, 3), np.uint8)
    return RecordedCrops(name, person, {"crops": crops, "t": np.arange(count) / FPS, **arrays}, kind="video")


def episodes(count: int, units: int, seed: int, length: int = 10, share: float = 0.3) -> np.ndarray:
    """Return labels bool [count, units] that stay on or off for about `length` frames."""
    draw = np.random.default_rng(seed)
    return np.repeat(draw.random((count // length + 1, units)) < share, length, axis=0)[:count]


def blendshapes_of(count: int, seed: int) -> np.ndarray:
    """Return blendshapes [count, 52] in which every action unit of the proxies comes and goes."""
    shapes = np.random.default_rng(seed).random((count, len(BLENDSHAPES))) * 0.1
    for proxy, is_on in zip(PROXIES, episodes(count, len(PROXIES), seed, 5, 0.35).T, strict=True):
        shapes[:, [BLENDSHAPES.index(name) for name in proxy.shapes]] += 0.6 * is_on[:, None]
    return shapes.astype(np.float32)


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., CropStore]:
    """Make a store of recordings."""

    def make(*recordings: RecordedCrops, folder: str = "store") -> CropStore:
        return write_store(tmp_path / folder, recordings)

    return make
