"""Files of weights as the authors published them: FaceCycle and PSM, temporal consistency, FAb-Net, TCAE.

Which one a file is, its keys say; docs/own-models.md has the layouts. Keys may have `module.` before them, as
data-parallel training writes, and a bare state dict is taken, too.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from psm_export.graphs.to_onnx import Exported, program_of, to_onnx
from psm_export.model import About, Crops, Model
from psm_export.networks.fabnet import FabNet
from psm_export.networks.facecycle import Encoder
from psm_export.networks.resnet18 import TemporalConsistency
from psm_export.networks.tcae import TcaeEncoder
from psm_export.sources.architectures import ARCHITECTURES, Name
from psm_export.sources.facecycle_model import facecycle_model
from psm_export.sources.torch_file import read_torch_file
from psm_export.sources.torch_reference import TorchReference, Values, values_of_program
from psm_stream.bundle import Alignment
from psm_stream.errors import CheckpointError

State = dict[str, Tensor]

PREFIX = "module."
INSIDE = ("codegeneration", "state_dict_model", "state_dict")
"""Where a file may keep the state dict, first found first taken: FAb-Net's `state_dict` is a head of a classifier."""
_TCAE_PART = "encoder."
"""Before TCAE's keys in a file of the whole network."""
_COUNTER = ".num_batches_tracked"
"""What PyTorch before 0.4.1 did not write; only training reads it."""
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_OTHERS = {"mobilenet.": "temporal consistency's MobileNetV2", "densenet.": "temporal consistency's DenseNet121"}


def read_published(path: Path, alignment: Alignment | None = None, licence: str | None = None) -> Model:
    """Read a torch file as one of the published encoders.

    alignment, licence: what somebody knows better; None: what is known of that system, "unknown".
    Raises CheckpointError: it cannot be read without executing code, holds none of the known encoders, or a tensor in
    it is missing, of another shape or not finite.
    """
    # TCAE and FAb-Net save the options of their training scripts along, an argparse.Namespace. It is a bag of
    # attributes: it has no __setstate__, __reduce__ or __setattr__ of its own, so making and filling it runs nothing.
    saved = read_torch_file(path, allowed=(argparse.Namespace,))
    name, given = _recognised(path, saved)
    state = _checked(path, name, given)
    about = _about(path, name, licence)
    return published_model(name, state, about, alignment)


def published_model(name: Name, state: State, about: About, alignment: Alignment | None = None) -> Model:
    """Make a model of a published architecture and its weights, float32, by the network's keys."""
    made = ARCHITECTURES[name]
    if name == "facecycle-expression-encoder":
        return facecycle_model({key: tensor.numpy() for key, tensor in state.items()}, about, alignment)
    with torch.random.fork_rng(devices=[]):
        network = network_of(name, state)
    network.load_state_dict(state, strict=False)  # all keys were checked but the counters of batches
    network.eval().requires_grad_(False)
    written: list[Exported] = []

    def exported() -> Exported:
        if not written:  # seconds of work, for the graph and for looking into it
            written.append(to_onnx(program_of(network, made.pixels), made.pixels, name))
        return written[0]

    def look(crops: Crops) -> Values:
        each = exported()
        return values_of_program(each.program, torch.from_numpy(made.pixels.of(crops)), each.names)

    graph_of = TorchReference(network, made.pixels, look)
    return Model(
        about=about,
        pixels=made.pixels,
        alignment=alignment or made.alignment,
        dimension=graph_of.encode(np.zeros((1, made.pixels.size_px, made.pixels.size_px, 3), np.uint8)).shape[1],
        reference=graph_of,
        build=lambda: exported().graph,
    )


def network_of(name: Name, state: Mapping[str, Tensor]) -> nn.Module:
    """Return an architecture's network in the sizes that weights have."""
    if name == "temporal-consistency-resnet18":
        return TemporalConsistency()
    if name == "tcae-expression-encoder":
        return TcaeEncoder()
    if name == "fab-net-encoder":
        last = state.get("encoder.20.weight")
        return FabNet() if last is None or last.ndim != 4 else FabNet(len(last))
    return Encoder()


def digest(path: Path) -> str:
    """Sha256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _about(path: Path, name: Name, licence: str | None) -> About:
    made = ARCHITECTURES[name]
    return About(
        name=path.stem,
        architecture=name,
        licence=licence or "unknown",
        # the layout says whose network it is, not whose weights
        training_data=tuple(f"if it is as published: {line}" for line in made.training_data),
        note=made.note,
        made_from={"kind": "torch file", "name": path.name, "sha256": digest(path), "layout": name},
    )


def _recognised(path: Path, saved: object) -> tuple[Name, dict[str, object]]:
    """Find the state dict in what was saved, and whose it is. Returns its keys without `module.`."""
    if not isinstance(saved, Mapping):
        raise CheckpointError(f"{path} holds a {type(saved).__name__}, expected a dict with weights; {_known()}")
    places = [saved[place] for place in INSIDE if isinstance(saved.get(place), Mapping)]
    for given in (*places, saved):
        keys = _without_prefix(given)
        if "conv8_1.weight" in keys:  # TCAE's encoder alone
            keys = {f"{_TCAE_PART}{key}": value for key, value in keys.items()}
        for name, made in ARCHITECTURES.items():
            if sum(mark in keys for mark in made.marks) >= 2:  # the third may be missing: that is said by its name
                return name, keys
    raise CheckpointError(f"{path} holds {_shown(saved, places)}, none of the encoders known here; {_known()}")


def _without_prefix(given: Mapping[object, object]) -> dict[str, object]:
    return {str(key).removeprefix(PREFIX): value for key, value in given.items()}


def _shown(saved: Mapping[object, object], places: list[Mapping[object, object]]) -> str:
    keys = [str(key).removeprefix(PREFIX) for place in (*places, saved) for key in place]
    for start, title in _OTHERS.items():
        if any(key.startswith(start) for key in keys):
            return title
    return ", ".join(repr(key)[:40] for key in keys[:4]) or "nothing"


def _known() -> str:
    return f"known: {', '.join(ARCHITECTURES)}; of any other network give an .onnx or .pt2 file (docs/own-models.md)"


def _checked(path: Path, name: Name, given: Mapping[str, object]) -> State:
    """Check one state dict against its network and copy it as float32. Raises CheckpointError: see `read_published`."""
    prefix = _TCAE_PART if name == "tcae-expression-encoder" else ""
    last = given.get("encoder.20.weight")
    with torch.device("meta"):  # for its shapes alone
        network = network_of(name, {"encoder.20.weight": last} if isinstance(last, Tensor) else {})
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items() if not key.endswith(_COUNTER)}
    missing = [key for key in shapes if f"{prefix}{key}" not in given]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of the {len(shapes)} tensors of {name} are missing, first "
            f"{prefix + missing[0]!r}; get the whole file"
        )
    return {
        key: _tensor(f"{path}: {prefix}{key}", given[f"{prefix}{key}"], shape, name) for key, shape in shapes.items()
    }


def _tensor(where: str, given: object, shape: tuple[int, ...], name: Name) -> Tensor:
    if not isinstance(given, Tensor) or given.layout != torch.strided or given.device.type != "cpu":
        raise CheckpointError(f"{where} is a {type(given).__name__}, expected a dense tensor of {name}")
    if given.dtype not in _FLOATS:
        raise CheckpointError(f"{where} is {str(given.dtype).removeprefix('torch.')}, expected float32")
    if tuple(given.shape) != shape:
        raise CheckpointError(f"{where} has shape {list(given.shape)}, expected {list(shape)} of {name}")
    tensor = torch.empty(shape, dtype=torch.float32).copy_(given.detach())
    if not torch.isfinite(tensor).all():
        raise CheckpointError(f"{where} has numbers that are not finite; the training that wrote it had failed")
    return tensor
