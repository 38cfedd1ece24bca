"""psm-adapt import: from a published file to the live path with the same codes, and what the checkpoint says."""

import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from psm_adapt.authors import EXPRESSION, NETWORKS, layout
from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.cli.import_ import job
from psm_export.cli.make import job as export
from psm_export.networks.facecycle import Encoder
from psm_stream.bundle import open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import CheckpointError, ConfigError

GOLDEN = Path(os.environ.get("PSM_GOLDEN", Path(__file__).resolve().parents[4] / "shared" / "golden"))
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None] * 255
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None] * 255

Write = Callable[..., Path]


def drawn(tag: str, network: str) -> dict[str, Tensor]:
    """A network's weights by the rule of the golden numbers."""
    state = {}
    for key, shape in layout()[NETWORKS[network]].items():
        draw = np.random.default_rng(zlib.crc32(f"{tag}/{network}/{key}".encode()))
        tensor = draw.standard_normal(shape).astype(np.float32)
        tensor *= np.float32(1 / math.sqrt(math.prod(shape[1:]))) if len(shape) > 1 else np.float32(0.01)
        state[key] = torch.from_numpy(tensor)
    return state


def flat(network: str) -> dict[str, Tensor]:
    """A network of one number, which is quick to write."""
    return {key: torch.tensor([0.25]).expand(shape) for key, shape in layout()[NETWORKS[network]].items()}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a published file of flat networks, and of what is given instead."""

    def write_one(name: str = "ExpCode_19.tar", networks: tuple[str, ...] = EXPRESSION, **changed: object) -> Path:
        torch.save({network: flat(network) for network in networks} | changed, tmp_path / name)
        return tmp_path / name

    return write_one


def live_codes(checkpoint: Path, pictures: np.ndarray) -> np.ndarray:
    """Export a checkpoint and encode pictures [N, 64, 64, 3] RGB as psm-stream does. Returns [N, 256]."""
    assert export([str(checkpoint), "--out", str(checkpoint.with_name("bundle"))]) == 0
    encoder = open_encoder(open_bundle(checkpoint.with_name("bundle")), "cpu")
    return np.stack([encoder.encode(picture) for picture in pictures])


def test_a_published_file_gives_the_authors_codes_on_the_live_path(write: Write, tmp_path: Path) -> None:
    if not (GOLDEN / "facecycle_step.npz").is_file():
        pytest.skip(f"no golden numbers at {GOLDEN}; set PSM_GOLDEN to the folder with facecycle_step.npz")
    with np.load(GOLDEN / "facecycle_step.npz") as golden:
        pictures = np.ascontiguousarray(golden["images_uint8"].transpose(0, 2, 3, 1))
        codes = golden["code"].reshape(len(pictures), 256)
    path = write(codegeneration=drawn("dev", "codegeneration"))
    assert job([str(path), "--out", str(tmp_path / "checkpoint")]) == 0
    np.testing.assert_allclose(live_codes(tmp_path / "checkpoint", pictures), codes, rtol=0, atol=1e-6)


def test_other_weights_give_the_networks_codes_on_the_live_path(
    write: Write, tmp_path: Path, rng: np.random.Generator
) -> None:
    state = drawn("other", "codegeneration")
    path = write(codegeneration={f"module.{key}": tensor for key, tensor in state.items()})
    assert job([str(path), "--out", str(tmp_path / "checkpoint")]) == 0
    pictures = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    encoder = Encoder()
    encoder.load_state_dict(state)
    images = (torch.from_numpy(pictures).permute(0, 3, 1, 2) - MEAN) / DEVIATION
    with torch.no_grad():
        codes = encoder(images).numpy()
    assert np.abs(codes).mean() > 0.005
    np.testing.assert_allclose(live_codes(tmp_path / "checkpoint", pictures), codes, rtol=0, atol=2e-6)


def test_what_the_checkpoint_and_the_bundle_say(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--licence", "CC BY 4.0", "--person", "SN001", "--note", "of the paper"]
    assert job([str(write(epoch=3)), "--out", str(tmp_path / "checkpoint"), *options]) == 0
    printed = capsys.readouterr().out
    assert "codegeneration (encoder): 48 tensors, 4,240,000 numbers" in printed
    assert "ignored: 'epoch'" in printed
    assert "epoch 19, person SN001, licence CC BY 4.0" in printed
    checkpoint = open_checkpoint(tmp_path / "checkpoint")
    about, design = checkpoint.about, checkpoint.design
    assert (design.generator, design.stem, design.identity) == ("facecycle", "vgg19", False)
    assert (about.epoch, about.step, about.person, about.licence) == (19, 0, "SN001", "CC BY 4.0")
    assert "VGG19 as published" in about.stem
    assert about.perceptual == "VGG19, not in the file"
    live_codes(tmp_path / "checkpoint", np.zeros((1, 64, 64, 3), np.uint8))
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.trained
    assert (manifest.licence, manifest.person, manifest.note) == ("CC BY 4.0", "SN001", "of the paper")
    assert manifest.training["imported"]["file"] == "ExpCode_19.tar"
    assert manifest.training["checkpoint"] == about.model_id


def test_a_full_file_can_be_trained_on(write: Write, tmp_path: Path) -> None:
    """Its networks take gradients where the published training changes weights, and the frozen stem stays."""
    path = write("finalmodel.tar", tuple(NETWORKS))
    assert job([str(path), "--out", str(tmp_path / "checkpoint")]) == 0
    checkpoint = open_checkpoint(tmp_path / "checkpoint")
    assert (checkpoint.about.epoch, checkpoint.about.licence) == (0, "unknown")
    networks = checkpoint.networks()
    assert list(networks.parts()) == list(NETWORKS.values())
    assert all((tensor == 0.25).all() for tensor in networks.state_dict().values())
    trained = {name for name, weight in networks.named_parameters() if weight.requires_grad}
    assert "generator.cnn.0.conv1.weight" in trained
    assert not any(name.startswith("generator.conv") for name in trained)
    assert sum(weight.numel() for weight in networks.trained()) == 4_240_000 + 2_996_544 + 12_854_147


def test_nothing_is_left_behind_by_a_file_that_is_refused(write: Write, tmp_path: Path) -> None:
    for path, error in ((write(exptoflow={}), CheckpointError), (tmp_path / "nowhere.tar", CheckpointError)):
        with pytest.raises(error):
            job([str(path), "--out", str(tmp_path / "checkpoint")])
    assert [path.name for path in tmp_path.iterdir()] == ["ExpCode_19.tar"]
    with pytest.raises(ConfigError, match="never written over anything"):
        job([str(write()), "--out", str(tmp_path)])
    with pytest.raises(ConfigError, match="--licence is empty"):
        job([str(write()), "--out", str(tmp_path / "checkpoint"), "--licence", ""])


@pytest.mark.parametrize("entry", ["{}", "not json", '{"schema": 1}'])
def test_an_entry_of_ours_that_somebody_changed_is_refused(write: Write, tmp_path: Path, entry: str) -> None:
    with pytest.raises(CheckpointError, match="entry 'psm_stream' is not what this version writes there"):
        job([str(write(psm_stream=entry)), "--out", str(tmp_path / "checkpoint")])
