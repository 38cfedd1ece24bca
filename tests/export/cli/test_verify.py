"""psm-export verify: a bundle that is right passes; one that was changed fails, and the layer is named."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from psm_export.cli.verify import job
from psm_export.sources.drawn import write_published
from psm_stream.errors import BundleError, ConfigError, DigestMismatch, ParityFailed
from psm_stream.testing import edit_manifest

Replace = Callable[[str, bytes], None]


def spoilt(bundle: Path, key: str, factor: float) -> bytes:
    graph = onnx.ModelProto.FromString((bundle / "encoder.onnx").read_bytes())
    (tensor,) = [one for one in graph.graph.initializer if one.name == key]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), key))
    return graph.SerializeToString()


def test_a_bundle_passes_and_says_by_how_much(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job([str(bundle), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "on CPUExecutionProvider (asked for)" in told
    assert "digests of 2 files as the manifest says; 16 crops of a photograph" in told
    assert told.endswith("passes\n")


def test_the_figures_as_json(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job([str(bundle), "--device", "cpu", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["passes"]
    assert (table["provider"], table["precision"], table["crops"]) == ("CPUExecutionProvider", "fp32", 16)
    value, limit, _ = table["figures"]["smallest cosine"]
    assert limit <= value <= 1.001
    assert table["figures"]["clusters kept"][0] is None  # sixteen crops are too few


@pytest.mark.parametrize("key", ["layer2_1.3", "expresscode.0"])
def test_a_layer_that_was_changed_is_named(
    key: str, bundle: Path, replace: Replace, capsys: pytest.CaptureFixture[str]
) -> None:
    replace("encoder.onnx", spoilt(bundle, f"{key}.weight", 1.02))
    with pytest.raises(
        ParityFailed, match=rf"worst node: {key}, off by 1\.\d+%, the one before it by 0\.00%"
    ) as caught:
        job([str(bundle), "--device", "cpu"])
    assert "worst input: crop" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out.endswith("FAILS\n")


def test_a_difference_that_the_cpu_does_not_show_is_the_providers(bundle: Path, replace: Replace) -> None:
    """Here the reference is another one, as a provider that computes something else makes it look."""
    with np.load(bundle / "check.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["embeddings"] = arrays["embeddings"] * np.float32(1.1)
    file = io.BytesIO()
    np.savez(file, **arrays)
    replace("check.npz", file.getvalue())
    with pytest.raises(ParityFailed, match="the difference is the provider's"):
        job([str(bundle), "--device", "cpu"])


def test_the_whole_gate_again_against_what_it_was_made_of(bundle: Path, replace: Replace, tmp_path: Path) -> None:
    write_published(tmp_path / "right.pth", "facecycle-expression-encoder", 7)
    write_published(tmp_path / "other.pth", "facecycle-expression-encoder", 8)
    store = tmp_path / "store"
    store.mkdir()
    np.save(store / "crops.npy", np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8))
    options = [str(bundle), "--device", "cpu", "--crops", str(store), "--against"]
    assert job([*options, str(tmp_path / "right.pth")]) == 0
    with pytest.raises(ParityFailed, match=r"worst node: conv1\.0, the first"):
        job([*options, str(tmp_path / "other.pth")])
    replace("encoder.onnx", spoilt(bundle, "resblock2.conv1.weight", 0.9))
    with pytest.raises(ParityFailed, match=r"worst node: resblock2\.conv1,"):
        job([*options, str(tmp_path / "right.pth")])


def test_another_networks_model_is_not_what_it_was_made_of(bundle: Path, tmp_path: Path) -> None:
    write_published(tmp_path / "other.pth", "tcae-expression-encoder")
    store = tmp_path / "store"
    store.mkdir()
    np.save(store / "crops.npy", np.zeros((8, 256, 256, 3), np.uint8))
    with pytest.raises(BundleError, match=r"takes 64 px, gives 256 numbers.* takes 256 px"):
        job([str(bundle), "--device", "cpu", "--crops", str(store), "--against", str(tmp_path / "other.pth")])


@pytest.mark.parametrize("name", ["encoder.onnx", "check.npz"])
def test_a_flipped_byte_is_found_in_each_file(name: str, bundle: Path) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(DigestMismatch, match=f"{name} has sha256"):
        job([str(bundle), "--device", "cpu"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: arrays.pop("samples"), "cannot be read"),
        (lambda arrays: arrays.update(crops=arrays["crops"][:, :32]), r"crops is uint8 \[16, 32, 64, 3\]"),
        (lambda arrays: arrays.update(embeddings=arrays["embeddings"][:, :9]), r"embeddings is float32 \[16, 9\]"),
        (lambda arrays: arrays.update(embeddings=arrays["embeddings"] * np.float32(np.nan)), "not all finite"),
        (lambda arrays: arrays.update(layers=np.array([{"a": 1}], dtype=object)), "cannot be read"),
    ],
)
def test_a_check_that_is_none_is_one_line(
    change: Callable[[dict], object], said: str, bundle: Path, replace: Replace
) -> None:
    with np.load(bundle / "check.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    change(arrays)
    file = io.BytesIO()
    np.savez(file, **arrays)
    replace("check.npz", file.getvalue())
    with pytest.raises(BundleError, match=said) as caught:
        job([str(bundle), "--device", "cpu"])
    assert "\n" not in str(caught.value)


def test_a_bundle_of_before_says_what_it_lacks(bundle: Path) -> None:
    edit_manifest(bundle, lambda tree: tree["files"].pop("check.npz"))
    with pytest.raises(BundleError, match=r"no check\.npz to be checked by; give --against MODEL"):
        job([str(bundle), "--device", "cpu"])


def test_crops_need_something_to_be_held_against(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="--crops needs --against MODEL"):
        job([str(bundle), "--crops", "store"])


def test_weights_that_hardly_matter_are_found_by_their_id_and_by_their_layer(bundle: Path, replace: Replace) -> None:
    """Attention's products hardly move the embedding; the limits alone would let this pass."""
    replace("encoder.onnx", spoilt(bundle, "layer2_1.2.g.weight", 1.002))
    with pytest.raises(ParityFailed) as caught:
        job([str(bundle), "--device", "cpu"])
    assert "its weights are those of model" in str(caught.value)
    assert "worst node: layer2_1.2.g," in str(caught.value)


def test_another_crop_than_the_models_is_found(bundle: Path, tmp_path: Path) -> None:
    write_published(tmp_path / "right.pth", "facecycle-expression-encoder", 7)
    edit_manifest(bundle, lambda tree: tree["alignment"].update(eye_distance=0.3))
    store = tmp_path / "store"
    store.mkdir()
    np.save(store / "crops.npy", np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8))
    with pytest.raises(BundleError, match=r"with eyes 0\.3 apart .* with eyes 0\.38 apart"):
        job([str(bundle), "--device", "cpu", "--crops", str(store), "--against", str(tmp_path / "right.pth")])
