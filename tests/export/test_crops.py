"""Crops to calibrate and measure with: of every kind of place, none of them for both; anything else is refused."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from psm_export import crops, taking
from psm_export.crops import sample
from psm_stream.bundle import Alignment
from psm_stream.errors import ConfigError

OURS = Alignment(template="eyes-level-1", crop_px=128)


def seen(*parts: np.ndarray) -> set[bytes]:
    return {crop.tobytes() for part in parts for crop in part}


def test_the_photographs_crops_do_not_depend_on_the_machine() -> None:
    faces = crops.photograph()
    assert faces.shape == (12, 64, 64, 3)
    assert hashlib.sha256(faces.tobytes()).hexdigest()[:12] == "100765f5891f"
    assert (crops.photograph(mirrored=True) == faces[:, :, ::-1]).all()


@pytest.mark.parametrize("size_px", [48, 128, 256])
def test_the_photograph_in_other_sizes_is_the_same_picture(size_px: int) -> None:
    large = crops.photograph(size_px)
    assert large.shape == (12, size_px, size_px, 3)
    back = np.stack([cv2.resize(crop, (16, 16), interpolation=cv2.INTER_AREA) for crop in large])
    wanted = np.stack([cv2.resize(crop, (16, 16), interpolation=cv2.INTER_AREA) for crop in crops.photograph()])
    assert np.abs(back.astype(int) - wanted).mean() < 1.5


def test_without_a_place_it_is_the_demos_face_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "_DEMO_FRAMES", 24)
    taken = sample(None, 64, OURS)
    assert len(taken.calibration) + len(taken.measured) >= 20
    assert taken.measured.shape[1:] == (64, 64, 3)
    assert not seen(taken.calibration) & seen(taken.measured)
    assert "calibrates for nobody else" in taken.described
    assert seen(sample(None, 64, OURS).measured) == seen(taken.measured)


def test_one_persons_crops_come_from_stretches_that_do_not_touch(tmp_path: Path, rng: np.random.Generator) -> None:
    stored = rng.integers(0, 256, (400, 128, 128, 3), dtype=np.uint8)
    np.save(tmp_path / "crops.npy", stored)
    taken = sample(tmp_path, 64, OURS)
    place = {cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA).tobytes(): i for i, crop in enumerate(stored)}
    calibrating = [place[crop.tobytes()] for crop in taken.calibration]
    measured = [place[crop.tobytes()] for crop in taken.measured]
    assert len(calibrating) == 180
    assert len(measured) == 200
    assert min(calibrating) == 0
    assert max(measured) == 399
    apart = [min(i - c for c in calibrating if c < i) for i in measured if i - 1 not in measured]
    assert min(apart) == 6, "a tenth of each stretch is left out where a measured one begins"


def test_of_several_people_none_is_measured_who_calibrated(tmp_path: Path) -> None:
    counts = {"ada": 20, "bob": 700, "cy": 30, "di": 300}
    stored = np.repeat(np.arange(4, dtype=np.uint8), list(counts.values()))
    np.save(tmp_path / "crops.npy", np.broadcast_to(stored[:, None, None, None], (len(stored), 64, 64, 3)))
    recordings = [{"person": person, "count": count} for person, count in counts.items()]
    (tmp_path / "store.json").write_text(json.dumps({"recordings": recordings}))
    taken = sample(tmp_path, 64, OURS)
    assert set(np.unique(taken.measured)) == {1}
    assert set(np.unique(taken.calibration)) == {0, 2, 3}
    assert (taken.calibration == 3).all(axis=(1, 2, 3)).sum() == 86, "a third of 256 for each, as far as they go"
    assert len(taken.measured) == 512
    assert "one person, who is not among the 3 that calibrated" in taken.described
    (tmp_path / "store.json").write_text(json.dumps({"recordings": recordings[:2]}))
    with pytest.raises(ConfigError, match=r"speaks of 720 crops, crops\.npy holds 1050"):
        sample(tmp_path, 64, OURS)


def test_images_are_read_in_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not one")
    taken = sample(tmp_path, 64, OURS)
    assert taken.calibration[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert taken.measured[:, 0, 0, 0].tolist() == [6, 7, 8, 9, 10, 11]


def test_what_is_not_as_the_encoder_wants_it_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "crops.npy", np.zeros((20, 128, 128, 3), np.uint8))
    wide = Alignment(template="wide", crop_px=256, eye_distance=0.3)
    taken = sample(tmp_path, 256, wide)
    assert taken.calibration.shape[1:] == (256, 256, 3)
    assert "enlarged from 128 px to the encoder's 256 px" in taken.described
    assert "aligned by another template" in taken.described


def test_of_a_long_film_crops_from_all_over_are_kept() -> None:
    kept = taking._thinned(iter(range(10_000)))
    steps = np.diff(kept)
    assert 512 <= len(kept) <= 1024
    assert (kept[0], len(set(steps))) == (0, 1)
    assert kept[-1] > 10_000 - steps[0] - 1


def test_what_is_no_crop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        sample(tmp_path / "nowhere", 64, OURS)
    with pytest.raises(ConfigError, match="holds 0 crops of a face, at least 8"):
        sample(tmp_path, 64, OURS)
    for number in range(8):
        Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(tmp_path / f"{number}.png")
    with pytest.raises(ConfigError, match=r"80x64 px, which is no aligned crop"):
        sample(tmp_path, 64, OURS)
    (tmp_path / "0.png").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=r"cannot read .*0\.png"):
        sample(tmp_path, 64, OURS)
    np.save(tmp_path / "crops.npy", np.zeros((10, 128, 128), np.uint8))
    with pytest.raises(ConfigError, match=r"is uint8 \[10, 128, 128\], expected uint8 \[N, S, S, 3\]"):
        sample(tmp_path, 64, OURS)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "crops.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="cannot read"):
        sample(tmp_path, 64, OURS)
