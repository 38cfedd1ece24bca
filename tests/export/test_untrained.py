"""The untrained encoder: drawn as the authors do, and the same on every machine."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from psm_export import facecycle, untrained
from psm_export.write import model_id
from psm_stream.bundle import Manifest, open_bundle

MODEL_ID = "0a8cfbcc6bd3"
"""Of the int8 form, as it came out on another day and processor; it shipped until there was a trained encoder."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained") / "bundle"
    assert untrained.main(["--out", str(folder)]) == 0
    return folder


def test_it_is_the_same_bytes_everywhere(made: Path) -> None:
    bundle = open_bundle(made)
    assert bundle.manifest.model_id == MODEL_ID
    assert model_id(onnx.load_model_from_string(bundle.read("encoder.onnx"))) == MODEL_ID


def test_it_says_what_it_is(made: Path) -> None:
    manifest = open_bundle(made).manifest
    assert not manifest.trained
    assert "UNTRAINED" in manifest.note
    assert manifest.precision == "int8"
    assert (manifest.input.size_px, manifest.output.dimension) == (64, 256)


def test_it_is_drawn_as_the_authors_do() -> None:
    weights = untrained.draw_weights()
    facecycle.check_weights(weights)
    assert weights["layer1.0.weight"].std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    assert weights["expresscode.0.weight"].std() == pytest.approx(0.01, rel=0.01)
    assert not weights["conv1.0.bias"].any()
    assert (untrained.draw_weights(seed=1)["conv1.0.weight"] != weights["conv1.0.weight"]).any()


def test_the_float_form_has_the_same_ends(tmp_path: Path) -> None:
    manifest: Manifest = untrained.write(tmp_path / "fp32", "fp32")
    assert manifest.precision == "fp32"
    assert manifest.parity.max_abs < 1e-5
    assert manifest.model_id != MODEL_ID


def test_the_command_refuses_to_overwrite(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert untrained.main(["--out", str(made)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
