"""The general bundle that ships is the one its command makes, and it says that it is untrained."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from psm_export import facecycle, untrained
from psm_export.write import model_id
from psm_stream.bundle import Manifest, general_bundle, open_bundle

VARIES = {"parity", "created_by"}
"""What a manifest says of the machine and the version that made it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained") / "bundle"
    assert untrained.main(["--out", str(folder)]) == 0
    return folder


def test_the_shipped_bundle_is_made_again_byte_for_byte(made: Path) -> None:
    again, shipped = open_bundle(made), open_bundle(general_bundle())
    assert again.manifest.files == shipped.manifest.files
    assert again.manifest.model_dump(exclude=VARIES) == shipped.manifest.model_dump(exclude=VARIES)


def test_its_parity_is_about_what_the_shipped_manifest_says(made: Path) -> None:
    again, shipped = open_bundle(made).manifest.parity, open_bundle(general_bundle()).manifest.parity
    assert again.max_abs <= shipped.tolerance
    assert again.cosine == pytest.approx(shipped.cosine, abs=0.01)


def test_the_shipped_bundle_says_what_it_is() -> None:
    manifest = open_bundle(general_bundle()).manifest
    assert not manifest.trained
    assert "UNTRAINED" in manifest.note
    assert manifest.precision == "int8"
    assert (manifest.input.size_px, manifest.output.dimension) == (64, 256)
    assert sum(file.stat().st_size for file in general_bundle().iterdir()) < 5_000_000


def test_its_id_is_the_one_of_its_weights() -> None:
    bundle = open_bundle(general_bundle())
    assert model_id(onnx.load_model_from_string(bundle.read("encoder.onnx"))) == bundle.manifest.model_id


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
    assert manifest.model_id != open_bundle(general_bundle()).manifest.model_id


def test_the_command_refuses_to_overwrite(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert untrained.main(["--out", str(made)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
