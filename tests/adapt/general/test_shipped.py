"""The general model that ships: checkpoint and bundle are one encoder, trained and small, and its card names them."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.data.augment import plain
from psm_adapt.general.shipped import general_checkpoint
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.encoder import open_encoder

CARD = Path(__file__).parents[3] / "docs" / "general-model.md"


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Twelve views of a face, [12, 128, 128, 3]: small shifts and other lights of a photograph."""
    photograph = data.astronaut()[0:220, 120:340]
    views = []
    for n in range(12):
        view = photograph[n : n + 200, 2 * n % 20 : 2 * n % 20 + 200]
        views.append(np.clip(cv2.resize(view, (128, 128), interpolation=cv2.INTER_AREA) * (0.7 + 0.05 * n), 0, 255))
    return np.stack(views).astype(np.uint8)


def test_the_bundle_is_the_checkpoints_encoder(crops: np.ndarray) -> None:
    bundle, checkpoint = open_bundle(general_bundle()), open_checkpoint(general_checkpoint())
    assert bundle.manifest.training["checkpoint"] == checkpoint.about.model_id
    encoder = open_encoder(bundle, "cpu")
    live = np.stack([encoder.encode(crop) for crop in crops])
    with torch.no_grad():
        codes = checkpoint.networks().encoder.eval()(plain(torch.from_numpy(crops))).numpy()
    cosine = (live * codes).sum(1) / np.linalg.norm(live, axis=1) / np.linalg.norm(codes, axis=1)
    assert cosine.min() > 0.98
    assert cosine.mean() > 0.99
    assert np.abs(live - codes).mean() < 0.02


def test_it_is_trained_free_to_use_and_fits() -> None:
    manifest, about = open_bundle(general_bundle()).manifest, open_checkpoint(general_checkpoint()).about
    assert manifest.trained
    assert manifest.licence == about.licence == "MIT"
    assert about.step > 1000
    assert about.precision == "fp16"
    assert {"encoder.safetensors", "flow_decoder.safetensors", "generator.safetensors"} <= set(
        os.listdir(general_checkpoint())
    )
    size = sum(file.stat().st_size for folder in (general_checkpoint(), general_bundle()) for file in folder.iterdir())
    assert size < 45_000_000


def test_the_card_names_this_model() -> None:
    card = CARD.read_text(encoding="utf-8")
    assert open_bundle(general_bundle()).manifest.model_id in card
    assert open_checkpoint(general_checkpoint()).about.model_id in card
