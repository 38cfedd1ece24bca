"""The store that is trained on: opened where there is one, made where there is none."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from psm_adapt.config import DataSettings
from psm_adapt.data.store import CropStore
from psm_adapt.train.crops import layout_of, store_of
from psm_adapt.train.progress import Teller
from psm_stream.errors import ConfigError, StoreError

QUIET = Teller(True)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Two people, four face crops each, one level deeper as DISFA's are."""
    draw = np.random.default_rng(3)
    for name in ("SN001", "SN002"):
        folder = tmp_path / "faces" / name / "face_only_aligned"
        folder.mkdir(parents=True)
        for number in range(4):
            cv2.imwrite(str(folder / f"frame{number}.png"), draw.integers(0, 256, (64, 64, 3), np.uint8))
    return tmp_path / "faces"


def test_a_store_is_opened_as_it_is(small_store: CropStore, tmp_path: Path) -> None:
    opened = store_of(DataSettings(source=small_store.folder), tmp_path / "runs", QUIET, processes=2)
    assert opened.folder == small_store.folder
    assert not (tmp_path / "runs").exists()


def test_a_store_is_made_beside_the_runs_and_found_again(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    data = DataSettings(source=faces, as_is=True)
    made = store_of(data, tmp_path / "runs", Teller(False), processes=1)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"making the crop store {made.folder} of {faces} (layout disfa)"
    assert said[-1] == "SN002/face_only_aligned: 4 crops of 4 frames"
    assert made.folder.parent == tmp_path / "runs/crops"
    assert made.people == ("SN001", "SN002")
    again = store_of(data, tmp_path / "runs", Teller(False), processes=1)
    assert (again.folder, again.store_id) == (made.folder, made.store_id)
    assert "0 recordings to look at, 2 are there already" in capsys.readouterr().err
    assert store_of(data, tmp_path / "runs", QUIET, processes=2).folder == made.folder


def test_several_processes_do_not_make_one(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no crop store; make one first: psm-adapt crops"):
        store_of(DataSettings(source=faces), tmp_path, QUIET, processes=2)


def test_nothing_to_train_on_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to train on; give --data"):
        store_of(DataSettings(), tmp_path, QUIET, processes=1)
    with pytest.raises(StoreError, match="there is no"):
        store_of(DataSettings(source=tmp_path / "nowhere"), tmp_path, QUIET, processes=1)


def test_layouts_are_told_by_what_is_there(faces: Path, tmp_path: Path) -> None:
    assert layout_of(faces) == "disfa"
    assert layout_of(faces / "SN001") == "folder"
    assert layout_of(tmp_path / "list.txt") == "voxceleb"
    session = tmp_path / "sessions/2026-11-20/001"
    session.mkdir(parents=True)
    (session / "info.json").touch()
    assert layout_of(tmp_path / "sessions") == layout_of(session) == "session"
