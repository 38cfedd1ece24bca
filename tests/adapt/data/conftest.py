"""What the tests of data share: small stores of random crops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from psm_adapt.data.store import CropStore
from psm_adapt.data.writer import RecordedCrops, write_store


def some_crops(name: str, person: str, count: int, **arrays: np.ndarray) -> RecordedCrops:
    """Return a recording whose crops are noise drawn from its name."""
    draw = np.random.default_rng(list(name.encode()))
    crops = draw.integers(0, 256, (count, 128, 128, 3), np.uint8)
    return RecordedCrops(name, person, {"crops": crops, **arrays})


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., CropStore]:
    """Make a store from (recording, person, frames) triples."""

    def make(*recordings: tuple[str, str, int], folder: str = "store") -> CropStore:
        return write_store(tmp_path / folder, [some_crops(*recording) for recording in recordings])

    return make
