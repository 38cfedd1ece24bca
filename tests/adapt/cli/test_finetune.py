"""psm-adapt finetune as a person types it, on a few faces of the demo, with a gate that lets nearly all through."""

import json
import os
import platform
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.adapt.data.conftest import write_video

from psm_adapt.cli import finetune
from psm_adapt.cli.finetune import job
from psm_adapt.cli.people import job as people_job
from psm_stream import people
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.cli.common import run
from psm_stream.config import SourceSettings
from psm_stream.sources.demo import DemoSource

QUICK = ["--run.epochs", "1", "--run.batch_size", "8", "--screen.fewest", "20"]
LAX = ["--gate.gain", "0", "--gate.informed", "-1", "--gate.neutral", "9"]
LAX += ["--gate.rank", "0", "--gate.spread", "0", "--gate.neighbours", "0"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A video of 30 frames, four a second, and a folder of the 18 images that follow."""
    folder = tmp_path_factory.mktemp("inputs")
    source = DemoSource(SourceSettings(kind="demo", pace="fast", fps=4, width=320, height=240), lambda: 0.0)
    source.open()
    pictures = iter(source.read, None)
    write_video(folder / "film.mp4", [np.asarray(picture.image) for picture in islice(pictures, 30)])
    (folder / "stills").mkdir()
    for n, picture in enumerate(islice(pictures, 18)):
        cv2.imwrite(str(folder / f"stills/{n:02d}.png"), cv2.cvtColor(np.asarray(picture.image), cv2.COLOR_RGB2BGR))
    source.close()
    return [str(folder / "film.mp4"), str(folder / "stills")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PSM_HOME", str(home))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def done(inputs: list[str], home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an accepted run that was kept as ann's first model."""
    out = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PSM_HOME", str(home))
        assert job(["--person", "ann", *inputs, "--out", str(out), "--quiet", *QUICK, *LAX]) == 0
    return out


def test_inputs_become_a_model_that_is_kept_under_the_person(done: Path) -> None:
    assert people.numbers("ann")[:1] == [1]
    kept = people.model_of("ann", 1)
    assert kept.manifest.model_id == open_bundle(done / "bundle").manifest.model_id
    assert kept.manifest.parent == open_bundle(general_bundle()).manifest.model_id
    written = json.loads((done / "adaptation.json").read_text())
    assert (written["accepted"], written["person"], written["frames"]) == (True, "ann", 48)
    assert written["recipe"]["run"]["faces"] == finetune.FACES
    page = (done / "report.html").read_text()
    assert "ann: accepted" in page
    assert "input 1/film: 30 faces" in page
    assert "input 2/stills: 18 faces" in page
    assert sorted(file.name for file in done.iterdir()) == [
        *("adaptation.json", "bundle", "checkpoint", "report.html", "report.png", "snapshot.npz")
    ]
    assert [file.name for file in done.parent.iterdir()] == ["first"]  # nothing is left of the way
    if os.name == "posix":
        assert done.stat().st_mode & 0o077 == 0


def test_a_snapshot_and_an_own_model_are_started_from(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--person", "ann", str(done / "snapshot.npz"), "--from", "person:ann/001", "--no-keep", "--faces", "40"]
    # a small step, for a large one does not do better than its parent on every processor
    assert job([*given, "--out", "again", *QUICK, *LAX, "--optimiser.lr", "3e-6", "--optimiser.min_lr", "1e-6"]) == 0
    out, err = capsys.readouterr()
    model_id = open_bundle(Path("again/bundle")).manifest.model_id
    assert out.startswith(f"model {model_id} in again/bundle: held-out loss ")
    assert out.endswith("use it with: psm-stream --model again/bundle\n")
    lines = err.splitlines()
    assert lines[0] == "snapshot.npz: 40 of 48 faces"
    assert any(line.startswith("learning from ") for line in lines)
    assert lines[-1] == "report: again/report.html"
    assert any(line.startswith("epoch 1 of 1: loss ") for line in lines)
    page = Path("again/report.html").read_text()
    parent = people.model_of("ann", 1).manifest.model_id
    assert f"{parent} (ann/001)" in page
    assert f"{open_bundle(general_bundle()).manifest.model_id} (general)" in page
    assert people.numbers("ann") == [1]


def test_what_is_rejected_is_said_in_one_line_and_reported(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--person", "bob", str(done / "snapshot.npz"), "--quiet", *QUICK, "--gate.gain", "0.9"]
    assert job(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    report, verdict = err.splitlines()
    assert report == "report: runs/finetune/bob/report.html"
    assert verdict.startswith("rejected: held-out loss ")
    assert "asked for" in verdict
    assert Path("runs/finetune/bob/report.png").is_file()
    assert not Path("runs/finetune/bob/bundle").exists()
    assert people.numbers("bob") == []


def test_a_home_that_cannot_be_written_is_told_first_and_takes_nothing(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "file"))
    given = ["--person", "eve", str(done / "snapshot.npz"), "--out", "eve", "--quiet", *QUICK, *LAX]
    assert run(job, given) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot write into {tmp_path / 'file'}: Not a directory; PSM_HOME names another")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert run(job, [*given, "--no-keep"]) == 0
    assert Path("eve/bundle").is_dir()


def test_what_could_not_be_kept_is_there_and_kept_later(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    real = finetune.run

    def fill(*given: Any) -> Any:
        (tmp_path / "home").write_text("")
        return real(*given)

    monkeypatch.setattr(finetune, "run", fill)
    given = ["--person", "eve", str(done / "snapshot.npz"), "--out", "eve", "--quiet", *QUICK, *LAX]
    assert run(job, given) == 1
    report, said = capsys.readouterr().err.splitlines()
    assert report == "report: eve/report.html"
    assert said.startswith("error: the model is whole in eve, but it was not kept: cannot keep a model of eve in ")
    assert said.endswith("psm-adapt people import eve --person eve")
    (tmp_path / "home").unlink()
    assert run(people_job, ["import", "eve", "--person", "eve"]) == 0
    assert capsys.readouterr().out == "the model of eve is eve/001 now\n"
    assert people.model_of("eve").manifest.model_id == open_bundle(Path("eve/bundle")).manifest.model_id


def test_ctrl_c_leaves_nothing(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "run", interrupted)
    assert run(job, ["--person", "cy", str(done / "snapshot.npz"), "--out", "here", "--quiet"]) == 130
    assert capsys.readouterr().err == "stopped; nothing was kept\n"
    assert list(tmp_path.iterdir()) == []
    assert people.numbers("cy") == []


def test_drafts_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()

    def draft(name: str, said: object) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / ".finetune.json").write_text(json.dumps(said))

    here = platform.node()
    draft(".ann-aaaaaaaa", {"pid": child.pid, "host": here})  # killed
    draft(".ann-bbbbbbbb", {"pid": os.getppid(), "host": here})  # runs
    draft(".ann-cccccccc", {"pid": child.pid, "host": here + "2"})  # on another computer
    draft(".ann-dddddddd", "nobody")
    draft("ann-eeeeeeee", {"pid": child.pid, "host": here})  # a result, by its name
    (tmp_path / ".ann-ffffffff").mkdir()  # somebody's
    before = {one.name for one in tmp_path.iterdir()}
    with finetune._draft(tmp_path / "ann") as mine:
        assert {one.name for one in tmp_path.iterdir()} == (before | {mine.name}) - {".ann-aaaaaaaa"}
    assert {one.name for one in tmp_path.iterdir()} == before - {".ann-aaaaaaaa"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["film.mp4"], "--person"),
        (["--person", "ann"], "INPUT"),
        (["--person", "../ann", "film.mp4"], "a person cannot be called '../ann'"),
        (["--person", "ann", "film.mp4", "--form", "general"], "did you mean --from?"),
        (["--person", "ann", "film.mp4", "--from", "genral"], "did you mean general?"),
        (["--person", "ann", "film.mp4", "--from", "person:anne"], "did you mean ann?"),
        (["--person", "ann", "film.mp4", "--config", "slow"], "recipe 'slow': there is auto, cpu, gpu"),
        (["--person", "ann", "film.mp4", "--device", "cdua"], "did you mean cuda?"),
        (["--person", "ann", "film.mp4", "--seed", "-1"], "--seed"),
        (["--person", "ann", "film.mp4", "--faces", "few"], "run.faces"),
        (["--person", "ann", "film.mp4", "--run.epocs", "2"], "did you mean --run.epochs?"),
        (["--person", "ann", "film.mp4"], "there is no film.mp4"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], says: str, done: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    del done  # ann is known
    assert run(job, arguments) in (1, 2)
    err = capsys.readouterr().err
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
