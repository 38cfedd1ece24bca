"""psm-export MODEL: a bundle that runs and says what it was made of, or one line that says why there is none."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from psm_export import facecycle, reference
from psm_export.cli.make import job
from psm_export.crops import photograph
from psm_export.sources.architectures import ARCHITECTURES
from psm_export.sources.drawn import drawn, write_published
from psm_stream.bundle import CHECK, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import BundleError, ConfigError, DeviceError, ParityFailed, PsmError

Write = Callable[..., Path]


@pytest.fixture
def crops(tmp_path: Path) -> str:
    """A store of crops: to look for the demo's face takes seconds."""
    folder = tmp_path / "store"
    folder.mkdir()
    np.save(folder / "crops.npy", np.concatenate([photograph(size_px=128), photograph(size_px=128, mirrored=True)]))
    return str(folder)


def test_a_bundle_runs_and_says_what_it_was_made_of(
    write_checkpoint: Write, weights: dict, crops: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"licence": "CC BY 4.0", "person": "ada", "parent": "ab" * 6, "epoch": 2, "step": 9, "note": "by hand"}
    checkpoint = write_checkpoint(weights, **about, training={"seed": 1, "losses": [2.5, 2]})
    options = ["--crops", crops, "--trained-on", "films of ada, her own", "--quiet"]
    assert job([str(checkpoint), "--out", str(tmp_path / "new"), *options]) == 0
    bundle = open_bundle(tmp_path / "new")
    manifest = bundle.manifest
    said = (manifest.name, manifest.precision, manifest.trained, manifest.note)
    assert said == ("checkpoint", "fp32", True, "by hand")
    assert (manifest.licence, manifest.person, manifest.parent) == ("CC BY 4.0", "ada", "ab" * 6)
    assert manifest.training_data == ("films of ada, her own",)
    made_of = {"epoch": 2, "step": 9, "checkpoint": "0123456789ab"}
    assert manifest.training == {"seed": 1, "losses": [2.5, 2], **made_of}
    assert manifest.parity.max_abs < 1e-5
    assert set(manifest.files) == {"encoder.onnx", CHECK}
    told = capsys.readouterr().out
    assert manifest.model_id in told
    assert "licence CC BY 4.0; trained on: films of ada, her own" in told
    crop = photograph()[:1]
    given = open_encoder(bundle, "cpu").encode(crop[0])
    np.testing.assert_allclose(given, reference.encode(weights, crop)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_published_layout_becomes_a_bundle_that_gives_what_its_network_gives(
    architecture: str, crops: str, tmp_path: Path
) -> None:
    write_published(tmp_path / "published.pth", architecture, seed=3)
    options = ["--out", str(tmp_path / "new"), "--crops", crops, "--licence", "as published", "--quiet"]
    assert job([str(tmp_path / "published.pth"), *options]) == 0
    bundle = open_bundle(tmp_path / "new")
    model = drawn(architecture, seed=3)
    assert bundle.manifest.input.size_px == model.pixels.size_px
    assert bundle.manifest.alignment == model.alignment
    assert bundle.manifest.licence == "as published"
    crop = photograph(size_px=model.pixels.size_px)[:1]
    wanted = model.reference.encode(crop)[0]
    given = open_encoder(bundle, "cpu").encode(crop[0])
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_several_become_one(crops: str, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_published(tmp_path / f"{seed}.pth", "facecycle-expression-encoder", seed)
    parts = [str(tmp_path / "1.pth"), str(tmp_path / "2.pth")]
    options = ["--out", str(tmp_path / "both"), "--crops", crops, "--eye-distance", "0.3", "--quiet"]
    assert job([*parts, *options]) == 0
    bundle = open_bundle(tmp_path / "both")
    assert bundle.manifest.output.dimension == 512
    assert (bundle.manifest.alignment.eye_distance, bundle.manifest.alignment.eye_line_y) == (0.3, 0.34)
    crop = photograph()[:1]
    wanted = [drawn("facecycle-expression-encoder", seed).reference.encode(crop)[0] for seed in (1, 2)]
    np.testing.assert_allclose(open_encoder(bundle, "cpu").encode(crop[0]), np.concatenate(wanted), atol=1e-5)


def test_the_fastest_that_passes_is_taken(
    write_checkpoint: Write, weights: dict, crops: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(tmp_path / "new"), "--precision", "auto", "--crops", crops, "--quiet"]
    assert job([str(write_checkpoint(weights)), *options]) == 0
    told = capsys.readouterr().out.splitlines()
    times = {}
    for line in told[:3]:
        precision, _, verdict = line.partition(": ")
        if verdict.startswith("passes, "):
            times[precision] = float(verdict.split()[1])
        else:
            assert verdict.startswith("does not pass: ")
    assert [line.partition(":")[0] for line in told[:3]] == ["fp32", "fp16", "int8"]
    assert open_bundle(tmp_path / "new").manifest.precision == min(times, key=lambda precision: times[precision])


def test_what_was_never_trained_says_so(write_checkpoint: Write, weights: dict, crops: str, tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "new"), "--crops", crops, "--quiet"]
    assert job([str(write_checkpoint(weights, note="a start")), *options]) == 0
    manifest = open_bundle(tmp_path / "new").manifest
    assert not manifest.trained
    assert manifest.note == "UNTRAINED: its weights are as they were drawn; a start"


def test_a_graph_that_computes_something_else_is_not_written(
    write_checkpoint: Write, weights: dict, crops: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = facecycle.build_model

    def wrong(weights: facecycle.Weights) -> onnx.ModelProto:
        graph = right(weights)
        (tensor,) = [one for one in graph.graph.initializer if one.name == "resblock1.conv2.weight"]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))
        return graph

    monkeypatch.setattr(facecycle, "build_model", wrong)
    with pytest.raises(ParityFailed, match=r"nothing was written: .*worst node: resblock1\.conv2,"):
        job([str(write_checkpoint(weights)), "--out", str(tmp_path / "new"), "--crops", crops, "--quiet"])
    assert not (tmp_path / "new").exists()


def test_embeddings_that_the_author_measured_must_come_out(crops: str, tmp_path: Path) -> None:
    """A manifest that says BGR of a model that wants RGB contradicts nothing but its own figures."""
    model = drawn("facecycle-expression-encoder", 5)
    (tmp_path / "mine.onnx").write_bytes(model.build().SerializeToString())
    measured = photograph()[:6]
    np.savez(tmp_path / "check.npz", crops=measured, embeddings=model.reference.encode(measured))
    about = {
        "name": "mine",
        "input": {"size_px": 64, "layout": "NHWC", "dtype": "uint8", "range": "0..255", "colour": "RGB"},
        "output": {"dimension": 256},
        "licence": "mine",
        "check": "check.npz",
    }
    options = ["--out", str(tmp_path / "new"), "--crops", crops, "--quiet"]
    (tmp_path / "mine.json").write_text(json.dumps(about))
    assert job([str(tmp_path / "mine.onnx"), *options]) == 0
    about["input"] = {**about["input"], "colour": "BGR"}
    (tmp_path / "mine.json").write_text(json.dumps(about))
    with pytest.raises(ParityFailed, match="is the manifest's colour, range, layout or normalisation another"):
        job([str(tmp_path / "mine.onnx"), "--out", str(tmp_path / "other"), *options[2:]])
    assert not (tmp_path / "other").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="never written over anything"):
            job([str(tmp_path / "checkpoint"), "--out", str(out)])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--precision", "in8"], "did you mean int8?"),
        (["--to", "tensort"], "did you mean tensorrt?"),
        (["--too", "onnx"], "did you mean --to?"),
        (["--eye-distance", "3"], "--eye-distance '3': expected a share of the crop's side"),
        (["--licence", "MIT\x1b[2J"], "--licence is empty or not one printable line"),
        (["--name", "a\nb"], "--name is empty or not one printable line"),
    ],
)
def test_options_that_are_wrong(
    options: list[str], reason: str, write_checkpoint: Write, weights: dict, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        job([str(write_checkpoint(weights)), "--out", str(tmp_path / "new"), "--quiet", *options])
    assert reason in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ExpCode_19.tar").write_bytes(b"PK")
    for model in ("ExpCode_19.tar", "nowhere", "."):
        with pytest.raises(PsmError) as caught:
            job([str(tmp_path / model), "--out", str(tmp_path / "new"), "--quiet"])
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_tensorrt_is_refused_before_any_work_where_there_is_none(tmp_path: Path) -> None:
    from psm_stream.gpu import has_nvidia_driver

    if has_nvidia_driver():
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(DeviceError, match=r"--to tensorrt: no NVIDIA driver on this machine.*pip install .tensorrt"):
        job(["checkpoint", "--out", str(tmp_path / "new"), "--to", "tensorrt"])


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['onnx'] = None; from psm_export.cli.entry import main; main()"
    options = [str(tmp_path), "--out", str(tmp_path / "new")]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: psm-export needs onnx; install it with: pip install 'psm-stream[export]'\n"


def test_a_part_of_our_own_that_is_missing_is_no_matter_of_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    from psm_export.cli.entry import subcommand

    monkeypatch.setitem(sys.modules, "psm_export.cli.show", None)
    with pytest.raises(ModuleNotFoundError):
        subcommand("show")(["bundle"])


def test_a_bundle_that_exists_already_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises((ConfigError, BundleError), match="bundle"):
        job([str(tmp_path), "--out", str(tmp_path / "new"), "--quiet"])


def test_a_place_that_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"file is a file; give a new folder elsewhere"):
        job(["checkpoint", "--out", str(tmp_path / "file" / "new" / "bundle")])


def test_a_command_that_is_nearly_one_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from psm_export.cli.entry import main; main()", "verfy", "bundle"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no model 'verfy'; did you mean verify?")
