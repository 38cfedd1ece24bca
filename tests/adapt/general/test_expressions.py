"""How blendshapes move landmarks, learned from a store in which that is known."""

from pathlib import Path

import numpy as np
import pytest
from tests.adapt.general.conftest import MOVING, recorded

from psm_adapt.data.store import CropStore
from psm_adapt.data.writer import RecordedCrops, write_store
from psm_adapt.general.expressions import learn_expressions
from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.errors import StoreError


def test_the_fields_that_moved_the_faces_are_found_again(real: CropStore, fields: np.ndarray) -> None:
    basis = learn_expressions(real)
    learned = basis.fields[[BLENDSHAPES.index(name) for name in MOVING]]
    wanted = fields[[BLENDSHAPES.index(name) for name in MOVING]]
    assert np.corrcoef(learned.ravel(), wanted.ravel())[0, 1] > 0.9
    assert basis.explained > 0.9


def test_a_blendshape_that_never_moved_moves_nothing(real: CropStore) -> None:
    change = np.zeros(52)
    change[BLENDSHAPES.index("cheekPuff")] = 1
    assert (learn_expressions(real).displacement(change) == 0).all()


def test_a_store_without_labels_or_with_short_recordings_is_refused(tmp_path: Path, fields: np.ndarray) -> None:
    crops = RecordedCrops("a", "a", {"crops": np.zeros((3, 128, 128, 3), np.uint8)})
    with pytest.raises(StoreError, match="no blendshapes; make it with psm-adapt crops --landmarker"):
        learn_expressions(write_store(tmp_path / "plain", [crops]))
    with pytest.raises(StoreError, match="no recording with 250 labelled frames"):
        learn_expressions(write_store(tmp_path / "short", [recorded("ann/1", 40, fields, 0)]))
