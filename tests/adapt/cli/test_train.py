"""psm-adapt train, as it is called: exit codes, one-line errors, Ctrl-C, going on, several processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.adapt.data.conftest import some_crops
from tests.adapt.train.test_world import torchrun

from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.cli.train import job
from psm_adapt.data.writer import write_store
from psm_adapt.train.folder import read_losses
from psm_stream.cli.common import run

PROJECT = Path(__file__).resolve().parents[3]
LIGHT = ["--design.generator", "light", "--design.stem", "learned", "--design.perceptual", "none"]
SMALL = ["--run.batch_size", "2", "--run.tensorboard", "false", "--run.precision", "fp32", "--loss.noise", "false"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops") / "store"
    return write_store(folder, [some_crops(name, name, 4) for name in ("anna", "ben")]).folder


def _arguments(store: Path, out: Path, *more: str, approach: str = "psm") -> list[str]:
    config = str(PROJECT / f"configs/train/{approach}.yaml")
    return ["--config", config, "--data", str(store), "--out", str(out), *LIGHT, *SMALL, *more]


def _weights(last: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.stem} {key}": value
        for file in sorted(last.glob("*.safetensors"))
        for key, value in load_file(file).items()
    }


@pytest.mark.timeout(300)
def test_one_model_per_person_in_sub_folders_and_what_is_missing_is_made_up(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(job, _arguments(store, out, "--epochs", "1")) == 0
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == [
        str(out / name / "last") for name in ("anna", "ben")
    ]
    assert "epoch 1/1: total " in said.err
    abouts = {name: open_checkpoint(out / name / "last").about for name in ("anna", "ben")}
    assert [(about.person, about.epoch, about.step) for about in abouts.values()] == [("anna", 1, 1), ("ben", 1, 1)]
    assert json.loads((out / "anna/settings.json").read_text())["data"]["people"] == ["anna"]
    assert json.loads((out / "settings.json").read_text())["data"]["people"] == ["All"]
    for name in ("loss.png", "preview.png", "losses.jsonl", "checkpoints/epoch_0001/encoder.safetensors"):
        assert (out / "ben" / name).stat().st_size > 0
    (out / "ben/last").rename(tmp_path / "gone")
    assert run(job, ["--resume", "--out", str(out), "--quiet"]) == 0
    assert open_checkpoint(out / "ben/last").about.model_id == abouts["ben"].model_id
    assert run(job, ["--resume", "--out", str(out), "--optimiser.lr", "1"]) == 2
    assert "--resume: optimiser.lr was 8e-05, now it is 1.0; leave it as it was" in capsys.readouterr().err


@pytest.mark.timeout(300)
def test_ctrl_c_finishes_the_step_and_going_on_is_the_same_as_not_having_stopped(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _arguments(store, tmp_path / "cut", "--data.people", "anna", "--epochs", "500")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "psm_adapt", "train", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True, cwd=PROJECT) as running:
        assert running.stderr is not None
        try:
            _wait_for("epoch 1/500", running.stderr)
            running.send_signal(signal.SIGINT)
            said = running.stderr.read()
            assert running.wait(200) == 130
        finally:
            running.kill()
    assert "stopping after this step" in said
    last_line = said.splitlines()[-1]
    assert last_line.startswith("stopped after step ")
    assert last_line.endswith(f"go on with: psm-adapt train --resume --out {tmp_path / 'cut'}")
    done = open_checkpoint(tmp_path / "cut/last").about.step
    assert run(job, ["--resume", "--out", str(tmp_path / "cut"), "--epochs", str(done + 1), "--quiet"]) == 0
    whole = _arguments(store, tmp_path / "whole", "--data.people", "anna", "--epochs", str(done + 1), "--quiet")
    assert run(job, whole) == 0
    gone_on, at_once = (_weights(tmp_path / name / "last") for name in ("cut", "whole"))
    assert gone_on.keys() == at_once.keys()
    assert all(torch.equal(value, at_once[key]) for key, value in gone_on.items())
    assert "already" not in capsys.readouterr().err


def _wait_for(text: str, lines: Sequence[str]) -> None:
    seen = []
    for line in lines:
        seen.append(line)
        if text in line:
            return
    pytest.fail(f"it ended before it said {text!r}: {seen}")


@pytest.mark.timeout(400)
def test_torchrun_with_two_processes_trains_as_one_does(store: Path, tmp_path: Path) -> None:
    """In float32, where Adam's first steps turn the rounding of tiny gradients into steps of the whole rate."""
    more = ["--epochs", "2", "--quiet", "--pairs.per_track", "1"]
    assert run(job, _arguments(store, tmp_path / "one", *more, approach="gm")) == 0
    torchrun("-m", "psm_adapt", "train", *_arguments(store, tmp_path / "two", *more, approach="gm"))
    one, two = (read_losses(tmp_path / name) for name in ("one", "two"))
    assert [row.steps for row in one] == [row.steps for row in two] == [1, 2]
    assert two[0].terms == pytest.approx(one[0].terms, rel=1e-5)  # the gradient's norm among them
    assert two[1].terms == pytest.approx(one[1].terms, rel=1e-2)
    a, b = (_weights(tmp_path / name / "last") for name in ("one", "two"))
    apart = torch.cat([(value - b[key]).abs().flatten() for key, value in a.items()])
    assert float((apart > 1e-6).float().mean()) < 0.02


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "--config is missing; configs/train has a file for each published approach"),
        (["--config", "psm.yaml", "--epoch", "3"], 2, "unknown option '--epoch'; did you mean --epochs?"),
        (["--config", "nowhere.yaml"], 2, "config file nowhere.yaml: No such file or directory"),
        (["--config", "CONFIGS/psm.yaml"], 2, "nothing to train on; give --data with a crop store"),
        (["--config", "CONFIGS/psm.yaml", "--data", "nowhere"], 1, "there is no nowhere"),
        (
            ["--config", "CONFIGS/psm.yaml", "--data", "STORE", "--data.people", "bem"],
            2,
            "data.people: 'bem' is not in",
        ),
        (["--config", "CONFIGS/psm_transfer.yaml", "--data", "STORE", *LIGHT], 2, "psm_transfer needs start_from"),
        (["--config", "CONFIGS/psm.yaml", "--data", "STORE", *LIGHT], 1, "anna: 2 pairs are fewer than one step takes"),
        (["--config", "CONFIGS/psm.yaml", "--epochs", "0"], 2, "config key 'run.epochs'"),
        (["--resume"], 2, "--resume needs --out"),
        (["--resume", "--out", "nowhere"], 2, "--resume: there is no nowhere/settings.json"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    *,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"STORE": str(store), "CONFIGS": str(PROJECT / "configs/train")}
    for word, place in places.items():
        arguments = [argument.replace(word, place) for argument in arguments]
    assert run(job, arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {says}")
    assert list(tmp_path.iterdir()) == []


def test_help_names_what_a_stranger_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        job(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--config", "--data", "--out", "--resume", "--epochs", "--device", "--quiet", "torchrun"):
        assert option in shown


@pytest.mark.parametrize("flag", ["--run.epochs", "--epochs"])
def test_a_short_option_and_its_dotted_key_are_one(store: Path, tmp_path: Path, flag: str) -> None:
    assert run(job, _arguments(store, tmp_path / "run", "--data.people", "anna", flag, "1", "--quiet")) == 0
    (settings,) = (tmp_path / "run").glob("settings.json")
    assert json.loads(settings.read_text())["run"]["epochs"] == 1


def test_missing_vgg19_weights_are_said_before_a_store_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "anna.mp4").write_bytes(b"no video")
    config = str(Path(__file__).parents[3] / "configs" / "train" / "psm.yaml")
    arguments = ["--config", config, "--data", str(tmp_path / "videos"), "--out", str(tmp_path / "runs" / "a")]
    assert run(job, arguments) == 2
    assert "no VGG19 weights" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
