"""What the live path takes of trained networks: made of the stored weights, near them, and the same each time."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from psm_adapt.adaptation.exporting import Exported, export_model
from psm_adapt.checkpoint import About, open_checkpoint
from psm_adapt.general.shipped import general_checkpoint
from psm_adapt.networks.design import Networks
from psm_export.crops import photograph
from psm_export.reference import encode
from psm_stream.bundle import ENCODER, general_bundle, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import AdaptationError, BundleError, CheckpointError

Crops = NDArray[np.uint8]
FIRST, THEN = photograph(), photograph(mirrored=True)[:3]


@pytest.fixture(scope="module")
def networks() -> Networks:
    networks = open_checkpoint(general_checkpoint()).networks()
    with torch.no_grad():  # numbers that float16 does not hold, as any training leaves them
        networks.encoder.conv1[0].bias += 1.23456e-4
    return networks


def about(**more: object) -> About:
    shipped = open_checkpoint(general_checkpoint()).about
    said = {"person": "ada", "parent": shipped.model_id, "licence": "CC0-1.0", "step": 7, "training": {"frames": 15}}
    return shipped.model_copy(update=said | more)


@pytest.fixture(scope="module")
def crops() -> Crops:
    return np.concatenate([FIRST, THEN]).repeat(2, axis=1).repeat(2, axis=2)  # 128 px that area scaling undoes


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, networks: Networks, crops: Crops) -> Exported:
    out = tmp_path_factory.mktemp("exported")
    return export_model(out, networks, about(), crops, precision="int8", name="ada", parent="0123456789ab")


def test_both_open_and_say_whose_they_are(exported: Exported) -> None:
    bundle, checkpoint = open_bundle(exported.bundle), open_checkpoint(exported.checkpoint)
    manifest = bundle.manifest
    assert (manifest.model_id, manifest.person, manifest.parent) == (exported.model_id, "ada", "0123456789ab")
    assert (manifest.licence, manifest.precision, manifest.trained) == ("CC0-1.0", "int8", True)
    assert manifest.training["frames"] == 15
    assert manifest.training["checkpoint"] == exported.checkpoint_id == checkpoint.about.model_id
    assert checkpoint.about.precision == "fp16"
    assert checkpoint.about.parent == about().parent
    assert manifest.parity == exported.parity
    open_encoder(bundle, "cpu").warm_up()


def test_parity_is_against_the_stored_weights_over_the_last_crops(exported: Exported) -> None:
    """Each crop again by the live encoder and by the numpy network."""
    stored = open_checkpoint(exported.checkpoint).tensors("encoder")
    wanted = encode({key: tensor.numpy() for key, tensor in stored.items()}, THEN)
    encoder = open_encoder(open_bundle(exported.bundle), "cpu")
    given = np.stack([encoder.encode(crop) for crop in THEN])
    assert exported.parity.crops == len(THEN)
    assert np.abs(wanted - given).max() == pytest.approx(exported.parity.max_abs, rel=0.1)
    cosines = (wanted * given).sum(1) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(given, axis=1)
    assert cosines.min() == pytest.approx(exported.parity.cosine, abs=1e-4)
    assert exported.parity.cosine > 0.99


def test_nearer_than_the_general_bundle_is_to_the_same_weights(tmp_path: Path, crops: Crops) -> None:
    """The general bundle was calibrated on other people."""
    general = open_checkpoint(general_checkpoint())
    made = export_model(tmp_path, general.networks(), about(), crops, precision="int8", name="ada")
    wanted = encode({key: tensor.numpy() for key, tensor in general.tensors("encoder").items()}, THEN)
    errors = []
    for folder in (made.bundle, general_bundle()):
        encoder = open_encoder(open_bundle(folder), "cpu")
        errors.append(np.abs(wanted - np.stack([encoder.encode(crop) for crop in THEN])).mean())
    assert errors[0] < 0.8 * errors[1]
    assert made.checkpoint_id == general.about.model_id, "stored weights are stored again as they are"


def test_what_calibrates_is_early_and_what_measures_is_late(
    tmp_path: Path, networks: Networks, crops: Crops, exported: Exported
) -> None:
    changed = crops.copy()
    changed[len(FIRST) :] = 255 - changed[len(FIRST) :]
    other = export_model(tmp_path, networks, about(), changed, precision="int8", name="ada", parent="0123456789ab")
    assert other.model_id == exported.model_id
    assert other.parity != exported.parity


def test_the_same_again_byte_for_byte(tmp_path: Path, networks: Networks, crops: Crops, exported: Exported) -> None:
    again = export_model(tmp_path, networks, about(), crops, precision="int8", name="ada", parent="0123456789ab")
    assert _digests(again) == _digests(exported)


def test_float_bundles_and_what_is_told(tmp_path: Path, networks: Networks, crops: Crops) -> None:
    told: list[tuple[int, int]] = []
    ticks = iter((10.0, 12.5))
    made = export_model(
        tmp_path,
        networks,
        about(),
        crops[:10],
        precision="fp32",
        name="ada",
        tell=lambda done, steps: told.append((done, steps)),
        clock=lambda: next(ticks),
    )
    assert made.parity.max_abs < 1e-5
    assert open_bundle(made.bundle).manifest.parent == about().parent
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert made.seconds == 2.5


def test_what_is_refused(tmp_path: Path, networks: Networks, crops: Crops) -> None:
    with pytest.raises(AdaptationError, match="9 crops of 128 px cannot calibrate an encoder; give 10 or more"):
        export_model(tmp_path / "a", networks, about(), crops[:9], precision="int8", name="ada")
    with pytest.raises(AdaptationError, match=r"crops are float32 \[15, 128, 128, 3\], expected uint8"):
        export_model(tmp_path / "a", networks, about(), crops.astype(np.float32), precision="int8", name="ada")  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(CheckpointError, match="exists"):
        export_model(tmp_path, networks, about(), crops, precision="fp32", name="ada")
    (tmp_path / "b" / "bundle").mkdir(parents=True)
    (tmp_path / "b" / "bundle" / ENCODER).write_text("somebody else's")
    with pytest.raises(BundleError, match="exists"):
        export_model(tmp_path / "b", networks, about(), crops, precision="fp32", name="ada")
    assert (tmp_path / "b" / "bundle" / ENCODER).read_text() == "somebody else's"


def _digests(exported: Exported) -> dict[str, str]:
    out = exported.bundle.parent
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
