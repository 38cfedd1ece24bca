"""What the teacher says, and how a code holds it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.adapt.general.conftest import recorded

from psm_adapt.data.store import CropStore
from psm_adapt.data.writer import RecordedCrops, write_store
from psm_adapt.general.lesson import Weights, learn_lesson
from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.errors import StoreError


def test_a_code_that_holds_the_values_gives_them_back_and_nothing_else(real: CropStore, made: CropStore) -> None:
    lesson = learn_lesson([real, made])
    values = lesson.values[:20].nan_to_num()
    codes = (values * lesson.weights * lesson.scale) @ lesson.rotation.T
    assert torch.allclose(lesson.read(codes), values, atol=1e-4)
    assert float(lesson.leftover(codes)) < 1e-8
    assert float(lesson.leftover(codes + 0.1 * torch.randn(256, generator=torch.Generator().manual_seed(0)))) > 1e-3
    assert codes.std() == pytest.approx(0.25, abs=0.1)


def test_values_are_standardised_blendshapes_and_changes_from_rest(real: CropStore) -> None:
    lesson = learn_lesson([real])
    jaw = np.asarray(real.blendshapes)[:, BLENDSHAPES.index("jawOpen")]
    absolute = lesson.values[:, lesson.names.index("absolute/jawOpen")].numpy()
    assert np.corrcoef(absolute, jaw)[0, 1] > 0.9999
    assert absolute.mean() == pytest.approx(0, abs=1e-3)
    change = lesson.values[:, lesson.names.index("change/jawOpen")].numpy()
    assert np.median(change[:300]) == pytest.approx(0, abs=1e-6)
    assert np.median(change[300:]) == pytest.approx(0, abs=1e-6)
    assert not any("cheekPuff" in name for name in lesson.names)  # it never moves


def test_mirrored_values_are_those_of_the_other_side(real: CropStore) -> None:
    lesson = learn_lesson([real])
    left, right = (lesson.names.index(f"absolute/eyeBlink{side}") for side in ("Left", "Right"))
    assert torch.allclose(lesson.mirrored[:, left], lesson.values[:, right])
    jaw = lesson.names.index("absolute/jawOpen")
    assert torch.allclose(lesson.mirrored[:, jaw], lesson.values[:, jaw])


def test_a_synthetic_clip_changes_from_its_first_picture(real: CropStore, made: CropStore) -> None:
    lesson = learn_lesson([real, made])
    relative = [not name.startswith("absolute") for name in lesson.names]
    changes = lesson.values[len(real) :, relative]
    assert changes.isfinite().all()
    assert (changes[0, : len(lesson.names) // 4].abs() < 1e-6).all()
    assert changes[1:12].abs().max() > 0.1


def test_a_recording_too_short_for_a_resting_face_has_no_change(
    tmp_path: Path, real: CropStore, fields: np.ndarray
) -> None:
    short = write_store(tmp_path / "short", [recorded("eve/1", 20, fields, 9)])
    lesson = learn_lesson([real, short])
    relative = [not name.startswith("absolute") for name in lesson.names]
    assert lesson.values[len(real) :, relative].isnan().all()
    assert lesson.values[len(real) :, [not one for one in relative]].isfinite().all()


def test_the_rotation_depends_on_the_seed_and_its_columns_are_orthonormal(real: CropStore) -> None:
    first, same, other = (learn_lesson([real], Weights(), seed).rotation for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)
    assert torch.allclose(first.T @ first, torch.eye(first.shape[1]), atol=1e-5)


def test_a_store_without_blendshapes_is_refused(tmp_path: Path) -> None:
    crops = RecordedCrops("a", "a", {"crops": np.zeros((3, 128, 128, 3), np.uint8)})
    with pytest.raises(StoreError, match="no blendshapes; make it with psm-adapt crops --landmarker"):
        learn_lesson([write_store(tmp_path / "plain", [crops])])
