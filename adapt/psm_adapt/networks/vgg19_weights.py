"""Where VGG19's ImageNet weights are found on this machine. They come from no package, and nothing is downloaded.

Read are torchvision's state dict (`vgg19-dcbb9e9d.pth`: `features.0.weight` and so on) and the same, or the authors'
layer names, as safetensors. Never unpickles code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from psm_adapt.networks.vgg import STEM, Vgg19
from psm_stream.errors import ConfigError

TORCHVISION = {
    "features.0": "conv1_1.0",
    "features.2": "conv1_2.0",
    "features.5": "conv2_1.0",
    "features.7": "conv2_2.0",
    "features.10": "conv3_1.0",
    "features.12": "conv3_2.0",
    "features.14": "conv3_3.0",
    "features.16": "conv3_4.0",
    "features.19": "conv4_1.0",
}
"""The layers that are used: torchvision's name and the authors'."""
REMEDY = "set stem: learned and perceptual: random, which need none"


@dataclass(frozen=True)
class Vgg19Weights:
    """VGG19's weights as far as conv4_1."""

    tensors: Mapping[str, Tensor]
    """By the authors' names, `conv1_1.0.weight` to `conv4_1.0.bias`, float32."""
    path: Path
    digest: str
    """sha256 of the tensors, in order of name, as float32; the same whichever file they came from."""

    def fill_stem(self, network: nn.Module) -> None:
        """Copy the stem's layers into a generator or normaliser."""
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if name.split(".")[0] in STEM:
                    weight.copy_(self.tensors[name])


def find_vgg19(path: Path | None = None) -> Vgg19Weights:
    """Read VGG19's weights from a file, or from torchvision's cache.

    Args:
        path: A `.pth` or `.safetensors` file. None: `vgg19-*.pth` in torch hub's folder of checkpoints.

    Raises ConfigError: there is no such file, or it holds something else.
    """
    if path is None:
        path = _cached()
    if not path.is_file():
        raise ConfigError(f"no VGG19 weights at {path}; give torchvision's vgg19 file, or {REMEDY}")
    stored = _read(path)
    wanted = Vgg19().state_dict()
    renamed = {_authors_name(key): tensor for key, tensor in stored.items()}
    for key, like in wanted.items():
        tensor = renamed.get(key)
        if not isinstance(tensor, Tensor) or tensor.shape != like.shape:
            raise ConfigError(f"{path} is not torchvision's VGG19: {key} should have shape {tuple(like.shape)}")
    tensors = {key: renamed[key].float().contiguous() for key in wanted}
    return Vgg19Weights(tensors, path, digest(tensors))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of tensors in order of name: each name, then its numbers as little-endian float32."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        hashed.update(name.encode())
        hashed.update(tensors[name].detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return hashed.hexdigest()


def _cached() -> Path:
    folder = Path(torch.hub.get_dir(), "checkpoints")
    found = sorted(folder.glob("vgg19-*.pth"))
    if not found:
        raise ConfigError(f"no VGG19 weights: no vgg19-*.pth in {folder}; give their file (vgg19: PATH), or {REMEDY}")
    return found[0]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"cannot read VGG19 weights from {path}: {reason}") from error
    if not isinstance(stored, Mapping):
        raise ConfigError(f"{path} is not torchvision's VGG19: it holds no state dict")
    return stored


def _authors_name(key: str) -> str:
    layer, _, kind = key.rpartition(".")
    return f"{TORCHVISION.get(layer, layer)}.{kind}"
