"""Whatever is named becomes a model or one line that says what it is and what to do; torch comes only when needed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.export.own_models import write, write_manifest

from psm_export import reference
from psm_export.parity.tracing import layer_names, layer_values
from psm_export.sources import open_model
from psm_export.sources.drawn import write_published
from psm_stream.bundle import Alignment, general_bundle
from psm_stream.errors import CheckpointError, ConfigError


def refusal(*paths: Path, manifest: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        open_model(list(paths), manifest)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_folder(weights: dict, write_checkpoint: Callable[..., Path]) -> None:
    folder = write_checkpoint(weights, licence="CC-BY-4.0", person="P1", parent="ab" * 6, epoch=3, note="hello")
    model = open_model([folder])
    assert (model.about.name, model.about.licence, model.about.person) == ("checkpoint", "CC-BY-4.0", "P1")
    assert (model.about.parent, model.about.trained, model.about.note) == ("ab" * 6, True, "hello")
    assert model.about.made_from["kind"] == "checkpoint folder"
    assert (model.alignment.template, model.alignment.crop_px, model.dimension) == ("eyes-level-1", 128, 256)
    crops = np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(model.reference.encode(crops), reference.encode(weights, crops), rtol=0, atol=1e-6)
    graph, traced = model.build(), model.reference.trace(crops)
    shared = [name for name in layer_names(graph) if name in traced]
    assert len(shared) == 24  # all but attention's four products
    slow: reference.Trace = {}
    reference.encode(weights, crops, slow)
    for name, values in layer_values(graph, shared, crops).items():
        np.testing.assert_allclose(traced[name], slow[name], rtol=0, atol=1e-5)
        np.testing.assert_allclose(values, slow[name], rtol=0, atol=1e-5)


def test_an_untrained_checkpoint_says_so(weights: dict, write_checkpoint: Callable[..., Path]) -> None:
    about = open_model([write_checkpoint(weights)]).about
    assert not about.trained
    assert about.note == "UNTRAINED: its weights are as they were drawn"


def test_files_by_their_endings(tmp_path: Path) -> None:
    write_published(tmp_path / "ExpCode_19.tar", "facecycle-expression-encoder")
    assert open_model([tmp_path / "ExpCode_19.tar"]).about.architecture == "facecycle-expression-encoder"
    assert open_model([write(tmp_path)]).about.made_from["kind"] == "ONNX file"


def test_another_alignment_holds(tmp_path: Path) -> None:
    alignment = Alignment(template="mine", crop_px=64, eye_distance=0.5, eye_line_y=0.4)
    assert open_model([write(tmp_path)], alignment=alignment).alignment == alignment


def test_a_manifest_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own.json").rename(tmp_path / "elsewhere" / "m.json")
    assert open_model([path], tmp_path / "elsewhere" / "m.json").dimension == 5


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    assert "no model given; give a checkpoint folder" in refusal()
    assert "no such file or folder; give a checkpoint folder" in refusal(tmp_path / "none.pth")
    assert "is an encoder bundle already; psm-stream --model" in refusal(general_bundle())
    assert "a folder with neither checkpoint.json nor manifest.json" in refusal(tmp_path)
    for name, said in (
        ("a.txt", "ends in '.txt'"),
        ("a", "without an ending"),
        ("a.safetensors", "a safetensors file"),
    ):
        (tmp_path / name).write_bytes(b"x")
        assert said in refusal(tmp_path / name)


def test_a_manifest_needs_one_own_file(tmp_path: Path) -> None:
    write_published(tmp_path / "a.tar", "facecycle-expression-encoder")
    write_manifest(tmp_path)
    message = refusal(tmp_path / "a.tar", manifest=tmp_path / "own.json")
    assert "belongs to one .onnx or .pt2 file, 0 given" in message


def test_errors_of_parts_keep_their_kind(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"text")
    write_published(tmp_path / "a.tar", "facecycle-expression-encoder")
    with pytest.raises(CheckpointError, match=r"part 2 of the ensemble: .*bad\.pth is text"):
        open_model([tmp_path / "a.tar", tmp_path / "bad.pth"])


def test_torch_is_not_imported_before_it_is_needed() -> None:
    modules = [
        "cli.entry",
        "cli.make",
        "checkpoint",
        "facecycle",
        "quantise",
        "write",
        "sources",
        "sources.user",
        "sources.ensemble",
    ]
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module('psm_export.' + name)\n"
    code += "raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
