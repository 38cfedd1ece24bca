"""The published architectures with seeded random weights: for tests, benchmarks and people who want to try.

Their embeddings move with the picture and mean nothing. Weights keep signals near 1, as trained ones do: convolutions
and linear layers by He's rule, normalisation around 1, and half of that where a residual block adds to its input. What
normalisation takes off and divides by is measured over the demo's face, so that embeddings differ from face to face.
FaceCycle, which has no normalisation and adds much to much, gets half the variance.

Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015, equation 10.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from psm_export.crops import photograph
from psm_export.model import About, Model
from psm_export.sources.architectures import ARCHITECTURES, Name
from psm_export.sources.published import State, network_of, published_model

_COUNTER = ".num_batches_tracked"
_FACES = 3
"""Of the photograph's twelve crops, every third."""
NOTE = "UNTRAINED: random weights. The embedding moves with the picture, but its numbers mean nothing."


def drawn(architecture: Name, seed: int = 0) -> Model:
    """Return a published architecture with weights drawn by a seed, the same on every machine."""
    about = About(
        name=f"{architecture}-untrained",
        architecture=architecture,
        licence="MIT",
        note=NOTE,
        trained=False,
        made_from={"kind": "drawn", "name": architecture, "seed": seed},
    )
    return published_model(architecture, drawn_state(architecture, seed), about)


def drawn_state(architecture: Name, seed: int = 0) -> State:
    """Draw an architecture's weights, by its network's keys and in their order. Tensors are shared: copy to change."""
    return OrderedDict(_state(architecture, seed))


@lru_cache(maxsize=4)  # settling takes up to seconds on a busy machine
def _state(architecture: Name, seed: int) -> State:
    with torch.random.fork_rng(devices=[]):
        network = network_of(architecture, {})
    state: State = OrderedDict()
    for key, tensor in network.state_dict().items():
        if key.endswith(_COUNTER):
            continue
        draw = np.random.default_rng([seed, zlib.crc32(f"{architecture}/{key}".encode())])
        values = _drawn(key, tuple(tensor.shape), draw, is_plain=architecture == "facecycle-expression-encoder")
        state[key] = torch.from_numpy(values.astype(np.float32))
    network.load_state_dict(state, strict=False)
    _settle(network, architecture)
    settled = network.state_dict()
    return OrderedDict((key, settled[key].clone()) for key in state)


def write_published(path: Path, architecture: Name, seed: int = 0, prefix: str = "") -> None:
    """Write drawn weights as the authors write theirs, with what else their files hold. prefix: "" or "module."."""
    state = drawn_state(architecture, seed)
    options = argparse.Namespace(lr=0.001, batch_size=64)
    if architecture == "facecycle-expression-encoder":
        saved: dict[str, object] = {"codegeneration": _prefixed(state, prefix)}
    elif architecture == "temporal-consistency-resnet18":
        saved = {"state_dict": _prefixed(state, prefix or "module."), "optimizer": {"state": {}, "param_groups": []}}
    elif architecture == "fab-net-encoder":
        head = {"0.weight": torch.ones(256), "0.bias": torch.zeros(256), "1.weight": torch.zeros(12, 256)}
        saved = {"state_dict_model": _prefixed(state, prefix), "state_dict": head, "opts": options}
    else:
        saved = {"state_dict": _prefixed(state, f"{prefix}encoder."), "optimizer": {}, "epoch": 3, "opts": options}
        saved |= {"lr": 0.001, "momentum": 0.9}
    torch.save(saved, path)


def _drawn(key: str, shape: tuple[int, ...], draw: np.random.Generator, is_plain: bool) -> NDArray[np.float64]:
    if key.endswith("running_var"):
        return np.ones(shape)
    if len(shape) > 1:
        gain = 1 if is_plain else 2
        return draw.standard_normal(shape) * math.sqrt(gain / math.prod(shape[1:]))
    if key.endswith("weight"):
        return draw.uniform(0.8, 1.2, shape) * (0.5 if ".bn2." in key else 1)
    return draw.standard_normal(shape) * 0.1


@torch.no_grad()
def _settle(network: nn.Module, architecture: Name) -> None:
    """Give normalisation the means and deviations that the demo's face has there, to three digits."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not norms:
        return
    pixels = ARCHITECTURES[architecture].pixels
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this batch alone
    faces = photograph()[::_FACES]
    larger = pixels.size_px // faces.shape[1]
    network.train()(torch.from_numpy(pixels.of(faces.repeat(larger, axis=1).repeat(larger, axis=2))))
    for norm in norms:
        for statistics in (norm.running_mean, norm.running_var):
            assert statistics is not None
            statistics.copy_(_three_digits(statistics))  # what is left of the processor's own last bits
            if statistics is norm.running_var:
                statistics.clamp_(min=1e-3)


def _three_digits(values: Tensor) -> Tensor:
    step = 10 ** (values.abs().clamp_min(1e-6).log10().floor() - 2)
    return (values / step).round() * step


def _prefixed(state: State, prefix: str) -> dict[str, Tensor]:
    return OrderedDict((f"{prefix}{key}", tensor) for key, tensor in state.items())
