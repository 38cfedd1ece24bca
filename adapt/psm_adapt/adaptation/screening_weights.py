"""The weights that screening uses, one file in the package; benchmarks/screening_weights.py makes it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from psm_adapt.adaptation.likeness import Measure
from psm_adapt.adaptation.occlusion import OcclusionNetwork
from psm_stream.errors import AdaptationError

FILE = Path(__file__).with_name("screening.safetensors")


def save_weights(file: Path, measure: Measure, network: OcclusionNetwork) -> None:
    """Write the weights in half precision."""
    tensors = {"shape": measure.shape, "look": measure.look, **network.state_dict()}
    save_file({name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}, file)


@cache
def screening_weights(file: Path = FILE) -> tuple[Measure, OcclusionNetwork]:
    """Read the weights, once. Raises AdaptationError: the file is missing or is not that."""
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
        measure = Measure(tensors.pop("shape"), tensors.pop("look"))
        network = OcclusionNetwork()
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise AdaptationError(f"cannot read {file}: {' '.join(str(error).split())}; install psm-stream again") from None
    with torch.no_grad():
        return measure, network.eval()
