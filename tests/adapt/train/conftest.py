"""What the tests of training share: settings small enough for seconds, and a store of noise to train on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.adapt.data.conftest import some_crops

from psm_adapt.config import TrainSettings
from psm_adapt.data.store import CropStore
from psm_adapt.data.writer import write_store

LIGHT = {"generator": "light", "stem": "learned", "perceptual": "none"}


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> CropStore:
    """Anna has 9 frames, Ben 8, Cleo 3."""
    people = (("anna", 9), ("ben", 8), ("cleo", 3))
    return write_store(
        tmp_path_factory.mktemp("small") / "store", [some_crops(name, name, count) for name, count in people]
    )


@pytest.fixture
def settings(small_store: CropStore, tmp_path: Path) -> Callable[..., TrainSettings]:
    """Make settings of the light design, two pairs a step; keywords are sections of changes."""

    def make(approach: str = "psm", **sections: dict[str, Any]) -> TrainSettings:
        tree: dict[str, Any] = {
            "approach": approach,
            "out": str(tmp_path / "out"),
            "data": {"source": str(small_store.folder)},
            "design": LIGHT,
            "run": {"epochs": 2, "batch_size": 2, "precision": "fp32", "tensorboard": False},
        }
        for name, changes in sections.items():
            tree[name] = tree.get(name, {}) | changes
        return TrainSettings.model_validate(tree)

    return make
