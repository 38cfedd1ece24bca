"""psm-adapt crops: what it prints, its exit codes, and that a run that was stopped goes on."""

import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import psutil
import pytest
from tests.adapt.data.conftest import demo_images

from psm_adapt.cli.crops import job
from psm_adapt.data.store import open_store
from psm_stream.cli.common import run
from psm_stream.errors import ConfigError


@pytest.fixture
def crops(tmp_path):
    """Folders of ready face crops: ann has 3, bob 2."""
    draw = np.random.default_rng(3)
    for name, count in (("ann", 3), ("bob", 2)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for n in range(count):
            cv2.imwrite(str(tmp_path / f"in/{name}/{n}.png"), draw.integers(0, 256, (96, 96, 3), np.uint8))
    return tmp_path / "in"


def test_prints_a_summary_on_stdout_and_its_way_on_stderr(crops, tmp_path, capsys):
    assert job([str(crops), "--out", str(tmp_path / "store"), "--as-is", "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'store'}: 2 people, 2 recordings, 5 crops, no face in 0 frames, 0 MB, ")
    assert err.splitlines() == [
        "looking at 2 recordings of 2 people",
        "ann: 3 crops",
        "bob: 2 crops",
        "putting the store together",
    ]
    assert open_store(tmp_path / "store").people == ("ann", "bob")


def test_quiet_prints_the_summary_and_what_went_wrong(crops, tmp_path, capsys):
    (crops / "torn.mp4").write_bytes(b"no video")
    assert job([str(crops), "--out", str(tmp_path / "store"), "--as-is", "--quiet", "--workers", "1"]) == 1
    out, err = capsys.readouterr()
    assert "5 crops" in out
    (line,) = err.splitlines()
    assert line.startswith("torn: ")
    assert "cannot be opened as a video" in line


def test_a_second_run_says_that_all_is_there(crops, tmp_path, capsys):
    arguments = [str(crops), "--out", str(tmp_path / "store"), "--as-is", "--workers", "1"]
    job(arguments)
    capsys.readouterr()
    assert job(arguments) == 0
    assert capsys.readouterr().err == "looking at 0 recordings of 0 people; 2 more are there already\n"


def test_person_frames_and_every_reach_the_store(crops, tmp_path):
    job([str(crops), "--out", str(tmp_path / "s"), "--as-is", "--person", "eve", "--every", "2", "--frames", "1"])
    store = open_store(tmp_path / "s")
    assert store.people == ("eve",)
    assert len(store) == 2
    assert (store.about.making.every, store.about.making.frames) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--every", "0"], "--every '0': expected a whole number from 1"),
        (["--frames", "x"], "--frames 'x': expected a whole number from 1"),
        (["--workers", "-1"], "--workers '-1'"),
        (["--layout", "disfaa"], "--layout 'disfaa'; did you mean disfa?"),
        (["--evry", "2"], "unknown option '--evry'; did you mean --every?"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, says):
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        job([str(tmp_path), "--out", str(tmp_path / "s"), *arguments])


def test_errors_are_one_line(tmp_path, capsys):
    assert run(job, [str(tmp_path / "nowhere"), "--out", str(tmp_path / "s")]) == 1
    assert capsys.readouterr().err == (
        f"error: there is no {tmp_path / 'nowhere'}; "
        "name a folder of videos or images, a video, a recorded session or a crop store\n"
    )
    assert run(job, [str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_landmarker_that_is_not_there(tmp_path, crops, capsys, monkeypatch):
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    assert run(job, [str(crops), "--out", str(tmp_path / "s"), "--landmarker"]) == 1
    assert "psm-doctor --fetch-models" in capsys.readouterr().err


class Running:
    """psm-adapt crops as a process of its own."""

    def __init__(self, *arguments):
        command = [sys.executable, "-c", "from psm_adapt.cli.entry import main; main()", "crops", *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def wait_for(self, text):
        """Read its lines up to one that starts so."""
        for line in self.process.stderr:
            if line.startswith(text):
                return
        raise AssertionError(f"it ended before it said {text!r}")

    def end(self):
        rest = self.process.stderr.read()
        self.process.stderr.close()
        return self.process.wait(60), rest


@pytest.fixture
def long_run(tmp_path):
    """Two images of one person, and as many of another as take a while."""
    (image,) = demo_images(1)
    for name, count in (("a", 2), ("b", 1500)):
        (tmp_path / "in" / name).mkdir(parents=True)
        first = tmp_path / "in" / name / "0.png"
        cv2.imwrite(str(first), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        for n in range(1, count):
            os.link(first, first.with_name(f"{n}.png"))
    return tmp_path / "in"


def test_a_killed_run_goes_on(long_run, tmp_path):
    arguments = (long_run, "--out", tmp_path / "store", "--workers", "1", "--frames", "150")
    first = Running(*arguments)
    first.wait_for("a: 2 crops")
    first.process.kill()
    assert first.end()[0] == -signal.SIGKILL
    second = Running(*arguments)
    second.wait_for("looking at 1 recording of 1 person; 1 more are there already")
    assert second.end()[0] == 0
    assert [recording.count for recording in open_store(tmp_path / "store").recordings] == [2, 150]


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent to a whole console there")
def test_ctrl_c_ends_it_cleanly(long_run, tmp_path):
    running = Running(long_run, "--out", tmp_path / "store", "--workers", "2")
    running.wait_for("a: 2 crops")
    workers = psutil.Process(running.process.pid).children(recursive=True)
    os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    code, rest = running.end()
    assert code == 130
    assert rest == "stopped; the same command goes on where this one was\n"
    assert workers
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert not list((tmp_path / "store").glob("*.npy"))
