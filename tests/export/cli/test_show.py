"""psm-export show: the manifest for people, digests checked."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from psm_export.cli.show import job
from psm_stream.errors import BundleError, DigestMismatch
from psm_stream.testing import edit_manifest


def test_licence_training_data_and_crop_are_shown(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job([str(made)]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["licence"] == "MIT"
    assert rows["trained"] == "on not known"
    assert rows["network"] == "facecycle-expression-encoder, fp32, UNTRAINED"
    assert rows["crop"] == "eyes-level-1: 128 px, eyes 0.38 of the side apart, 0.34 from above"
    assert rows["gives"] == "256 numbers"
    assert "encoder.onnx" in rows["files"]
    assert "check.npz" in rows["files"]


def test_the_manifest_as_it_is(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job([str(made), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((made / "manifest.json").read_text(encoding="utf-8"))


def test_damage_is_found(bundle: Path) -> None:
    (bundle / "check.npz").write_bytes(b"another")
    with pytest.raises(DigestMismatch):
        job([str(bundle)])


def test_a_graph_that_needs_more_than_itself_is_refused(bundle: Path, replace: Callable[[str, bytes], None]) -> None:
    graph = onnx.ModelProto.FromString((bundle / "encoder.onnx").read_bytes())
    graph.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    replace("encoder.onnx", graph.SerializeToString())
    with pytest.raises(BundleError, match="weights in another file"):
        job([str(bundle)])


def test_nothing_that_a_terminal_obeys_is_printed(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_manifest(bundle, lambda tree: tree.update(made_from={"name\x1b[2J": "\x1b[31mred\n"}))
    assert job([str(bundle)]) == 0
    assert "\x1b" not in capsys.readouterr().out
