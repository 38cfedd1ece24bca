"""Checkpoints: what is written comes back, and whatever is wrong is one line."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

from psm_adapt.checkpoint import About, open_checkpoint, save_checkpoint
from psm_adapt.networks.design import Design, Networks, build_networks
from psm_stream.errors import CheckpointError

LIGHT = Design(generator="light", stem="learned", perceptual="none")
ABOUT = About(design=LIGHT, stem="learned", perceptual="none", licence="MIT", created_by="a test", epoch=3, step=40)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return build_networks(LIGHT, seed=1)


@pytest.fixture(scope="module")
def original(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "a"
    save_checkpoint(folder, networks, ABOUT)
    return folder


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    """The same files under another name each; who changes one must unlink it first."""
    shutil.copytree(original, tmp_path / "a", copy_function=os.link)
    return tmp_path / "a"


def _put(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_what_is_saved_comes_back_bit_for_bit(networks: Networks, saved: Path) -> None:
    opened = open_checkpoint(saved)
    assert (opened.about.epoch, opened.about.step, opened.design, opened.about.precision) == (3, 40, LIGHT, "fp32")
    read = opened.networks().state_dict()
    assert read.keys() == networks.state_dict().keys()
    assert all(torch.equal(read[key], value) for key, value in networks.state_dict().items())


def test_half_precision_is_half_the_size_and_as_near_as_float16(networks: Networks, saved: Path) -> None:
    half = saved.with_name("half")
    about = save_checkpoint(half, networks, ABOUT, precision="fp16")
    sizes = [(folder / "encoder.safetensors").stat().st_size for folder in (saved, half)]
    assert 1.9 < sizes[0] / sizes[1] <= 2
    read = open_checkpoint(half).networks().state_dict()
    for key, value in networks.state_dict().items():
        assert torch.equal(read[key], value.half().float())
    assert about.model_id != open_checkpoint(saved).about.model_id


def test_the_encoder_can_be_read_without_torch(networks: Networks, saved: Path) -> None:
    weights = load_file(saved / "encoder.safetensors")
    assert weights.keys() == networks.encoder.state_dict().keys()
    assert {array.dtype for array in weights.values()} == {np.dtype("float32")}
    about = json.loads((saved / "checkpoint.json").read_text())
    assert about["schema"] == 1
    assert about["design"]["generator"] == "light"
    assert sorted(about["files"]) == ["encoder.safetensors", "flow_decoder.safetensors", "generator.safetensors"]


def test_the_model_id_is_the_weights_alone(networks: Networks, saved: Path) -> None:
    again = save_checkpoint(saved.with_name("b"), networks, ABOUT.model_copy(update={"note": "again", "step": 41}))
    assert again.model_id == open_checkpoint(saved).about.model_id
    other = build_networks(LIGHT, seed=1)
    with torch.no_grad():
        other.encoder.conv1[0].weight[0, 0, 0, 0] += 1e-6
    assert save_checkpoint(saved.with_name("c"), other, ABOUT).model_id != again.model_id


def test_identity_networks_are_kept_where_the_design_has_them(tmp_path: Path) -> None:
    design = Design(generator="light", stem="learned", perceptual="none", identity=True)
    networks = build_networks(design, seed=0)
    save_checkpoint(tmp_path / "a", networks, ABOUT.model_copy(update={"design": design}))
    read = open_checkpoint(tmp_path / "a").networks()
    assert read.identity_encoder is not None
    assert networks.identity_encoder is not None
    expected = networks.identity_encoder.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in read.identity_encoder.state_dict().items())


def test_nothing_is_written_over(networks: Networks, saved: Path) -> None:
    with pytest.raises(CheckpointError, match="exists; a checkpoint is never written over another"):
        save_checkpoint(saved, networks, ABOUT)


@pytest.mark.parametrize(("value", "why"), [(float("nan"), "is not finite"), (1e6, "does not fit float16")])
def test_weights_that_cannot_be_kept_leave_no_folder(tmp_path: Path, value: float, why: str) -> None:
    networks = build_networks(LIGHT, seed=1)
    with torch.no_grad():
        networks.encoder.conv1[0].weight[0] = value
    with pytest.raises(CheckpointError, match=rf"weight conv1\.0\.weight of the encoder {why}"):
        save_checkpoint(tmp_path / "a", networks, ABOUT, precision="fp16")
    assert not (tmp_path / "a").exists()


def _truncate(folder: Path) -> None:
    file = folder / "encoder.safetensors"
    _put(file, file.read_bytes()[:-100])


def _flip_a_bit(folder: Path) -> None:
    file = folder / "generator.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    _put(file, bytes(content))


def _edit(key: str, value: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        about = json.loads((folder / "checkpoint.json").read_text())
        about[key] = value
        _put(folder / "checkpoint.json", json.dumps(about).encode())

    return edit


def _rewrite(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    """Another encoder.safetensors, with the digest to match."""

    def rewrite(folder: Path) -> None:
        weights = load_file(folder / "encoder.safetensors")
        change(weights)
        _put(folder / "encoder.safetensors", save(weights))
        _redigest(folder)

    return rewrite


def _redigest(folder: Path) -> None:
    about = json.loads((folder / "checkpoint.json").read_text())
    digest = hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest()
    _edit("files", about["files"] | {"encoder.safetensors": digest})(folder)


def _no_safetensors(folder: Path) -> None:
    _put(folder / "encoder.safetensors", b"\x80\x04K\x01.")  # a pickle
    _redigest(folder)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, r"encoder\.safetensors has sha256 .*changed or cut off"),
        (_flip_a_bit, r"generator\.safetensors has sha256 .*changed or cut off"),
        (lambda folder: (folder / "encoder.safetensors").rename(folder / "e.safetensors"), "safetensors is missing"),
        (lambda folder: (folder / "checkpoint.json").unlink(), r"cannot read checkpoint\.json: No such file"),
        (lambda folder: _put(folder / "checkpoint.json", b"{"), r"checkpoint\.json is wrong at the file"),
        (_edit("schema", 2), "has schema 2, this version reads 1; update psm-stream"),
        (_edit("files", {"../../etc/passwd": "0" * 64}), r"checkpoint\.json is wrong at files"),
        (_edit("files", {"encoder.safetensors": "0" * 64}), r"names no flow_decoder\.safetensors"),
        (
            _edit("design", {"generator": "heavy"}),
            r"wrong at design\.generator: Input should be 'facecycle' or 'light'",
        ),
        (_edit("licence", ""), "wrong at licence"),
        (_edit("extra", 1), "wrong at extra: Extra inputs are not permitted"),
        (_rewrite(lambda weights: weights.pop("conv1.0.bias")), r"weight conv1\.0\.bias is missing"),
        (_rewrite(lambda weights: weights.update(more=np.zeros(1, "f4"))), r"unknown weight more \(1 in all\)"),
        (
            _rewrite(lambda weights: weights.update({"conv1.0.bias": np.zeros(63, "f4")})),
            r"shape \[63\].* wants \[64\]",
        ),
        (_rewrite(lambda weights: weights["conv1.0.bias"].fill(np.inf)), r"conv1\.0\.bias is not finite"),
        (_no_safetensors, "is not a safetensors file"),
    ],
)
def test_whatever_is_wrong_is_one_line(saved: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(saved)
    with pytest.raises(CheckpointError, match=says) as caught:
        open_checkpoint(saved).networks()
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_folder(tmp_path: Path) -> None:
    (tmp_path / "ExpCode_17.tar").write_bytes(b"")
    for path in (tmp_path / "none", tmp_path / "ExpCode_17.tar"):
        with pytest.raises(CheckpointError, match="is no checkpoint folder; psm-adapt import"):
            open_checkpoint(path)


def test_a_file_changed_after_opening_is_refused(saved: Path) -> None:
    opened = open_checkpoint(saved)
    _flip_a_bit(saved)
    with pytest.raises(CheckpointError, match="changed or cut off"):
        opened.networks()
