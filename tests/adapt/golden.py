"""The golden rule for weights, the golden step of the authors' code, and a second plain version of their step."""

from __future__ import annotations

import json
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.plain_facecycle import PlainModel
from numpy.typing import NDArray
from torch import Tensor, nn

from psm_adapt.networks import Design, Networks, Vgg19, build_networks
from psm_adapt.networks.vgg import freeze_stem

FOLDER = Path(os.environ.get("PSM_GOLDEN", Path(__file__).resolve().parents[3] / "shared" / "golden"))
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class GoldenStep:
    arrays: dict[str, NDArray[Any]]
    steps: list[dict[str, Any]]
    weight_sums: dict[str, float]


def golden_step() -> GoldenStep:
    """The authors' numbers; a test that asks for them is skipped where there are none."""
    if not (FOLDER / "facecycle_step.npz").is_file():
        pytest.skip(f"no golden numbers at {FOLDER}; set PSM_GOLDEN to the folder with facecycle_step.npz")
    with np.load(FOLDER / "facecycle_step.npz") as stored:
        arrays = dict(stored)
    told = json.loads((FOLDER / "facecycle_step.json").read_text())
    return GoldenStep(arrays, told["steps"], told["weight_sums"])


@torch.no_grad()
def fill(module: nn.Module, net: str, tag: str) -> None:
    """Weights by the golden rule: N(0, 1 / sqrt(inputs)), biases N(0, 0.01), seeded by tag, network and key."""
    for key, weight in module.state_dict().items():
        rng = np.random.default_rng(zlib.crc32(f"{tag}/{net}/{key}".encode()))
        drawn = rng.standard_normal(tuple(weight.shape)).astype(np.float32)
        drawn *= np.float32(1 / math.sqrt(math.prod(weight.shape[1:])) if weight.ndim > 1 else 0.01)
        weight.copy_(torch.from_numpy(drawn))


def golden_networks(tag: str) -> tuple[Networks, Vgg19]:
    """The faithful model and the perceptual network, filled by the golden rule; the stem is frozen."""
    networks = build_networks(Design(stem="learned", perceptual="none"), 0)
    freeze_stem(networks.generator)
    perceptual = Vgg19()
    for module, net in (
        (networks.encoder, "codegeneration"),
        (networks.flow_decoder, "exptoflow"),
        (networks.generator, "Swap_Generator"),
        (perceptual, "vgg19"),
    ):
        fill(module, net, tag)
    return networks, perceptual


def plain_model(networks: Networks, perceptual: Vgg19) -> PlainModel:
    """The same tensors for the plain version; gradients gather in the same places."""
    parts = (networks.encoder, networks.flow_decoder, networks.generator, perceptual)
    return PlainModel(*(dict(part.named_parameters()) for part in parts))


def normalised(pictures: NDArray[np.uint8]) -> Tensor:
    """[N, 3, 64, 64] RGB, 0..255, to the normalised space."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, DEVIATION))
    return (torch.from_numpy(pictures).float() - mean) / deviation


def gradient_norms(networks: Networks) -> dict[str, float]:
    """L2 norm of each network's gradient."""
    norms = {}
    for name, part in networks.parts().items():
        squares = [weight.grad.double().square().sum() for weight in part.parameters() if weight.grad is not None]
        norms[name] = math.sqrt(float(torch.stack(squares).sum()))
    return norms
