"""Work folders: private, removed at the end of a run, and those of runs that were killed at the next start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from psm_stream.adaptation.workspace import MODELS_KEPT, Workspace, remove_leftovers
from psm_stream.errors import AdaptationError


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def a_result(out: Path, text: str) -> Path:
    for name in ("bundle/manifest.json", "bundle/encoder.onnx", "checkpoint/checkpoint.json", "adaptation.json"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    return out


def test_a_run_without_adaptations_leaves_nothing(psm_home: Path) -> None:
    Workspace("a" * 32).close()
    assert not psm_home.exists()


def test_a_model_is_kept_with_its_weights_and_the_oldest_go(tmp_path: Path, psm_home: Path) -> None:
    space = Workspace("a" * 32)
    space.new(1)
    kept = [space.keep(a_result(tmp_path / str(n), str(n))) for n in range(5)]
    assert [folder.exists() for folder in kept] == [False] * (5 - MODELS_KEPT) + [True] * MODELS_KEPT
    for name in ("manifest.json", "encoder.onnx", "checkpoint/checkpoint.json", "adaptation.json"):
        assert (kept[-1] / name).read_text() == "4"
    space.close()
    assert list((psm_home / "work").iterdir()) == []


def test_the_model_that_runs_stays_however_many_were_not_taken(tmp_path: Path) -> None:
    space = Workspace("a" * 32)
    space.new(1)
    running = space.keep(a_result(tmp_path / "0", "0"))
    kept = [space.keep(a_result(tmp_path / str(n), str(n)), running) for n in range(1, 6)]
    assert [folder.exists() for folder in kept] == [False] * (5 - MODELS_KEPT) + [True] * MODELS_KEPT
    assert (running / "manifest.json").read_text() == "0"


def test_a_folder_goes_when_nothing_uses_it_any_more() -> None:
    space = Workspace("a" * 32)
    folder = space.new(1)
    was_there: list[bool] = []
    space.discard(folder, [lambda: was_there.append(folder.exists())] * 2)
    space.close()
    assert was_there == [True, True]
    assert not folder.exists()


def test_folders_of_the_dead_are_removed_and_those_of_the_living_stay(psm_home: Path) -> None:
    script = "from psm_stream.adaptation.workspace import Workspace; Workspace('d' * 32).new(1)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    living = Workspace("a" * 32).new(1)
    reused = psm_home / "work" / ("b" * 32)  # this process's id, but of another, earlier process
    reused.mkdir()
    (reused / "run.json").write_text(json.dumps({"pid": psutil.Process().pid, "began": 1.0}))
    remove_leftovers()
    assert [folder.name for folder in (psm_home / "work").iterdir()] == ["a" * 32]
    assert living.is_dir()


def test_what_is_no_run_is_left_alone(tmp_path: Path, psm_home: Path) -> None:
    """PSM_HOME may be somebody's home, and `work` their own."""
    thesis, elsewhere = psm_home / "work" / "thesis", tmp_path / "elsewhere"
    for folder in (thesis, elsewhere):
        folder.mkdir(parents=True)
        (folder / "text").touch()
        os.utime(folder, (1, 1))
    (psm_home / "work" / ("c" * 32)).symlink_to(elsewhere)
    remove_leftovers()
    assert (thesis / "text").exists()
    assert (elsewhere / "text").exists()


def test_a_folder_that_cannot_be_made_is_told(psm_home: Path) -> None:
    psm_home.write_text("a file")
    with pytest.raises(AdaptationError, match="cannot make the work folder"):
        Workspace("a" * 32).new(1)
    remove_leftovers()
