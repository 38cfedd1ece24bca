"""Checkpoints are read without torch, and what is wrong with one is said in a line."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from psm_export.checkpoint import read_checkpoint
from psm_stream.errors import CheckpointError

Write = Callable[..., Path]


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_read(write_checkpoint: Write, weights: dict) -> None:
    folder = write_checkpoint(weights, epoch=3, step=40, person="ada", parent="ab" * 6, training={"seed": 1})
    read = read_checkpoint(folder)
    assert (read.about.epoch, read.about.step, read.about.person, read.about.parent) == (3, 40, "ada", "ab" * 6)
    assert read.about.training == {"seed": 1}
    assert read.weights.keys() == weights.keys()
    assert all((read.weights[key] == tensor).all() for key, tensor in weights.items())


def test_half_precision_is_widened(write_checkpoint: Write, weights: dict) -> None:
    half = {key: tensor.astype(np.float16) for key, tensor in weights.items()}
    read = read_checkpoint(write_checkpoint(half))
    assert all(tensor.dtype == np.float32 for tensor in read.weights.values())
    assert (read.weights["conv1.0.weight"] == half["conv1.0.weight"].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("about", "learned"),
    [({}, False), ({"step": 1}, True), ({"epoch": 1}, True), ({"training": {"imported": {"file": "a.tar"}}}, True)],
)
def test_trained_is_what_learned_anything(write_checkpoint: Write, weights: dict, about: dict, learned: bool) -> None:
    assert read_checkpoint(write_checkpoint(weights, **about)).about.is_trained is learned


def test_no_torch_is_needed(write_checkpoint: Write, weights: dict) -> None:
    folder = write_checkpoint(weights)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\nfrom psm_export.checkpoint import read_checkpoint\n"
        f"read_checkpoint(Path({str(folder)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_places_are_named_for_what_they_are(tmp_path: Path, write_checkpoint: Write, weights: dict) -> None:
    (tmp_path / "ExpCode_19.tar").write_bytes(b"PK")
    assert "psm-adapt import" in refusal(tmp_path / "ExpCode_19.tar")
    assert "no checkpoint.json in it" in refusal(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text("{}")
    assert "an encoder bundle already" in refusal(tmp_path)
    folder = write_checkpoint(weights)
    (folder / "encoder.safetensors").unlink()
    assert "no encoder.safetensors in it" in refusal(folder)


def test_a_changed_file_is_refused(write_checkpoint: Write, weights: dict) -> None:
    folder = write_checkpoint(weights)
    content = bytearray((folder / "encoder.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "encoder.safetensors").write_bytes(content)
    assert "not the file that checkpoint.json names" in refusal(folder)


def test_json_that_is_wrong_is_refused(write_checkpoint: Write, weights: dict) -> None:
    folder = write_checkpoint(weights)
    about = json.loads((folder / "checkpoint.json").read_text())
    for change, reason in (
        ({"schema": 2}, "has schema 2, this version reads 1; update"),
        ({"step": "many"}, "wrong at step"),
        ({"model_id": "../x"}, "wrong at model_id"),
    ):
        (folder / "checkpoint.json").write_text(json.dumps(about | change))
        assert reason in refusal(folder)
    (folder / "checkpoint.json").write_text("{")
    assert "wrong at the file" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conv1.0.bias": np.zeros(64)}, "conv1.0.bias is float64"),
        ({"conv1.0.bias": np.zeros(32, np.float32)}, r"expected float32 \[64\]"),
        ({"conv1.0.bias": np.full(64, np.inf, np.float32)}, "not finite"),
        ({"other": np.zeros(1, np.float32)}, "unknown tensor 'other'"),
    ],
)
def test_weights_that_are_wrong_are_refused(
    write_checkpoint: Write, weights: dict, change: dict[str, np.ndarray], reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(write_checkpoint(weights | change))


def test_what_is_no_safetensors_file_is_refused(write_checkpoint: Write, weights: dict) -> None:
    folder = write_checkpoint(weights)
    about = json.loads((folder / "checkpoint.json").read_text())
    about["files"]["encoder.safetensors"] = hashlib.sha256(b"nothing").hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(about))
    (folder / "encoder.safetensors").write_bytes(b"nothing")
    assert "encoder.safetensors cannot be read" in refusal(folder)
