"""The run's folder: nothing is written over, and the losses survive being cut off."""

import json
from pathlib import Path

import pytest

from psm_adapt.train.folder import EpochLosses, RunFolder, free_folder, read_losses
from psm_stream.errors import TrainingError


def test_a_taken_folder_gets_a_sub_folder(tmp_path: Path) -> None:
    new, empty, taken, file = (tmp_path / name for name in ("new", "empty", "taken", "file"))
    empty.mkdir()
    taken.mkdir()
    (taken / "a").touch()
    file.touch()
    assert free_folder(new) == new
    assert free_folder(empty) == empty
    assert free_folder(taken).parent == taken
    assert not free_folder(taken).exists()
    with pytest.raises(TrainingError, match="cannot make the folder"):
        RunFolder(free_folder(file), False).make({}, file, {})


def test_settings_of_a_run_and_of_all_runs(tmp_path: Path) -> None:
    RunFolder(tmp_path / "all/anna", False).make({"who": "anna"}, tmp_path / "all", {"who": "all"})
    assert json.loads((tmp_path / "all/settings.json").read_text()) == {"who": "all"}
    assert json.loads((tmp_path / "all/anna/settings.json").read_text()) == {"who": "anna"}


def test_losses_are_noted_once_and_read_back(tmp_path: Path) -> None:
    rows = [EpochLosses(epoch, 10 * epoch, 0.1, 1.5, {"total": 1 / epoch}) for epoch in (1, 2, 3)]
    folder = RunFolder(tmp_path, False)
    folder.open(0)
    for row in (rows[0], rows[1], rows[1], rows[2]):
        folder.add_losses(row)
    folder.close()
    assert read_losses(tmp_path) == rows
    (tmp_path / "losses.jsonl").write_text((tmp_path / "losses.jsonl").read_text()[:-10])
    assert read_losses(tmp_path) == rows[:2]
    folder.open(10)  # training goes on after step 10
    assert read_losses(tmp_path) == rows[:1]
