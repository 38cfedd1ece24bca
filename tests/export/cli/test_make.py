"""psm-export: a bundle that runs and says what it was made of, or one line that says why there is none."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from psm_export import reference
from psm_export.cli import job
from psm_export.crops import photograph
from psm_stream.bundle import open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import CheckpointError, ConfigError

Write = Callable[..., Path]


def test_a_bundle_runs_and_says_what_it_was_made_of(
    write_checkpoint: Write, weights: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"licence": "CC BY 4.0", "person": "ada", "parent": "ab" * 6, "epoch": 2, "step": 9, "note": "by hand"}
    checkpoint = write_checkpoint(weights, **about, training={"seed": 1, "losses": [2.5, 2]})
    assert job([str(checkpoint), "--out", str(tmp_path / "new")]) == 0
    bundle = open_bundle(tmp_path / "new")
    manifest = bundle.manifest
    assert (manifest.name, manifest.precision, manifest.trained, manifest.note) == (
        "checkpoint",
        "fp32",
        True,
        "by hand",
    )
    assert (manifest.licence, manifest.person, manifest.parent) == ("CC BY 4.0", "ada", "ab" * 6)
    made_of = {"epoch": 2, "step": 9, "checkpoint": "0123456789ab"}
    assert manifest.training == {"seed": 1, "losses": [2.5, 2], **made_of}
    assert manifest.parity.max_abs < 1e-6
    assert manifest.model_id in capsys.readouterr().out
    crop = photograph()[:1]
    given = open_encoder(bundle, "cpu").encode(crop[0])
    np.testing.assert_allclose(given, reference.encode(weights, crop)[0], rtol=0, atol=1e-6)


def test_integers_are_measured_on_crops_that_they_were_not_calibrated_with(
    write_checkpoint: Write, weights: dict, tmp_path: Path
) -> None:
    np.save(tmp_path / "crops.npy", photograph())
    options = ["--precision", "int8", "--crops", str(tmp_path), "--name", "mine"]
    assert job([str(write_checkpoint(weights)), "--out", str(tmp_path / "new"), *options]) == 0
    manifest = open_bundle(tmp_path / "new").manifest
    assert (manifest.name, manifest.precision, manifest.parity.crops) == ("mine", "int8", 6)
    assert manifest.parity.max_abs > 1e-4
    assert f"other crops of {tmp_path.name}" in manifest.parity.reference


def test_what_was_never_trained_says_so(write_checkpoint: Write, weights: dict, tmp_path: Path) -> None:
    assert job([str(write_checkpoint(weights, note="a start")), "--out", str(tmp_path / "new")]) == 0
    manifest = open_bundle(tmp_path / "new").manifest
    assert not manifest.trained
    assert manifest.note == "UNTRAINED: its weights are as they were drawn; a start"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="never written over anything"):
            job([str(tmp_path / "checkpoint"), "--out", str(out)])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--to", "tensorrt"], "--to tensorrt: not in this version, which makes onnx"),
        (["--precision", "fp16"], "--precision fp16: not in this version, which makes fp32 or int8"),
        (["--precision", "in8"], "did you mean int8?"),
        (["--too", "onnx"], "did you mean --to?"),
    ],
)
def test_options_that_are_not_there(options: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        job(["checkpoint", "--out", str(tmp_path / "new"), *options])
    assert reason in str(caught.value)


def test_a_published_file_is_sent_to_the_import(tmp_path: Path) -> None:
    (tmp_path / "ExpCode_19.tar").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"psm-adapt import .*ExpCode_19\.tar --out CHECKPOINT"):
        job([str(tmp_path / "ExpCode_19.tar"), "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['onnx'] = None; from psm_export.cli import entry; entry()"
    options = [str(tmp_path), "--out", str(tmp_path / "new")]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: psm-export needs onnx; install it with: pip install 'psm-stream[export]'\n"


def test_a_part_of_our_own_that_is_missing_is_no_matter_of_installing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psm_export.build", None)
    with pytest.raises(ModuleNotFoundError):
        job([str(tmp_path), "--out", str(tmp_path / "new")])
