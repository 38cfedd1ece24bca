"""Crops to calibrate and measure with: of the photograph, of a store, of images; anything else is refused."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from psm_export import crops
from psm_stream.errors import ConfigError


def test_the_photographs_crops_do_not_depend_on_the_machine() -> None:
    faces = crops.photograph()
    assert faces.shape == (12, 64, 64, 3)
    assert hashlib.sha256(faces.tobytes()).hexdigest()[:12] == "100765f5891f"
    assert (crops.photograph(mirrored=True) == faces[:, :, ::-1]).all()


def test_without_a_place_they_are_the_photographs() -> None:
    sample = crops.sample(None)
    assert (sample.calibration == crops.photograph()).all()
    assert (sample.measured == crops.photograph(mirrored=True)).all()


def test_a_store_gives_crops_from_all_over_it_and_none_twice(tmp_path: Path, rng: np.random.Generator) -> None:
    stored = rng.integers(0, 256, (1000, 128, 128, 3), dtype=np.uint8)
    np.save(tmp_path / "crops.npy", stored)
    sample = crops.sample(tmp_path)
    assert sample.calibration.shape == sample.measured.shape == (48, 64, 64, 3)
    assert (sample.calibration[0] == cv2.resize(stored[0], (64, 64), interpolation=cv2.INTER_AREA)).all()
    assert (sample.measured[-1] == cv2.resize(stored[-1], (64, 64), interpolation=cv2.INTER_AREA)).all()
    seen = {crop.tobytes() for crop in (*sample.calibration, *sample.measured)}
    assert len(seen) == 96


def test_images_are_read_in_order_of_name(tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not one")
    sample = crops.sample(tmp_path)
    assert sample.calibration[:, 0, 0, 0].tolist() == [0, 2, 4, 6]
    assert sample.measured[:, 0, 0, 0].tolist() == [1, 3, 5, 7]


def test_what_is_no_crop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        crops.sample(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds 0 crops, at least 8"):
        crops.sample(tmp_path)
    for number in range(8):
        Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(tmp_path / f"{number}.png")
    with pytest.raises(ConfigError, match=r"80x64 px, which is no aligned crop"):
        crops.sample(tmp_path)
    (tmp_path / "0.png").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=r"cannot read .*0\.png"):
        crops.sample(tmp_path)
    np.save(tmp_path / "crops.npy", np.zeros((10, 128, 128), np.uint8))
    with pytest.raises(ConfigError, match=r"is uint8 \[10, 128, 128\], expected uint8 \[N, S, S, 3\]"):
        crops.sample(tmp_path)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "crops.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="cannot read"):
        crops.sample(tmp_path)
