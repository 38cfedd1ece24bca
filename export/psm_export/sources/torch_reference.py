"""The reference of a network that PyTorch has: what PyTorch computes for crops, in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from psm_export.model import Crops, Pixels

AT_ONCE = 8
"""Crops in memory at a time: ResNet-18's maps take 35 MB for each of 256 px."""
Values = dict[str, NDArray[np.float32]]
Look = Callable[[Crops], Values]


@dataclass(frozen=True, slots=True)
class TorchReference:
    """A network, and what it takes.

    network: images [N, 3, S, S] float32 to embeddings [N, D]. look: what `trace` gives. fed: brings crops to what the
    network takes, where that is anything but `pixels.of`.
    """

    network: Callable[[Tensor], Tensor]
    pixels: Pixels
    look: Look
    described: str = "the same weights in PyTorch, float32"
    fed: Callable[[Crops], NDArray[np.float32] | NDArray[np.uint8]] | None = None

    @torch.inference_mode()
    def encode(self, crops: Crops) -> NDArray[np.float32]:
        """Encode crops [N, S, S, 3]. Returns [N, D]."""
        parts = []
        for start in range(0, len(crops), AT_ONCE):
            images = (self.fed or self.pixels.of)(crops[start : start + AT_ONCE])
            parts.append(self.network(torch.from_numpy(images)).flatten(1).numpy())
        return np.concatenate(parts)

    def trace(self, crops: Crops) -> Mapping[str, NDArray[np.float32]]:
        """Return what the layers give, by the graph's names. crops: [N, S, S, 3], a few."""
        return self.look(crops)

    def eager(self) -> Callable[[Crops], object] | None:
        """Return the plainest way to run it: bytes to a tensor, normalised there, then the network."""
        if self.fed is not None:
            return self.encode
        mean, deviation = torch.tensor(self.pixels.mean), torch.tensor(self.pixels.deviation)
        is_bgr, network = self.pixels.colour == "BGR", self.network

        @torch.inference_mode()
        def run(crops: Crops) -> object:
            images = torch.from_numpy(crops).float()
            images = images.flip(-1) if is_bgr else images
            return network(((images - mean) / deviation).permute(0, 3, 1, 2).contiguous())

        return run


@torch.inference_mode()
def values_of_program(program: ExportedProgram, images: Tensor, names: Mapping[str, str]) -> Values:
    """Run a program node by node and return its values by other names. names: name there -> name here."""
    kept: Values = {}

    class Watching(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n.name in names and isinstance(value, Tensor) and value.dtype == torch.float32:
                kept[names[n.name]] = value.numpy().copy()  # copied: a layer in place may write over it
            return value

    Watching(program.graph_module).run(*_inputs(program, images))
    return kept


def _inputs(program: ExportedProgram, images: Tensor) -> list[object]:
    """What the graph of a program takes: its weights, buffers and constants, and the images in their place."""
    given: list[object] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            target = str(spec.target)
            given.append(program.state_dict[target] if target in program.state_dict else program.constants[target])
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            given.append(program.constants[str(spec.target)])
        else:
            given.append(images)
    return given


@torch.inference_mode()
def values_of_layers(network: nn.Module, images: Tensor) -> Values:
    """Run a network and return what each convolution and linear layer gave, by the layer's name."""
    kept: Values = {}

    def watch(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_layer: nn.Module, _given: object, value: Tensor) -> None:
            kept[name] = value.detach().clone().numpy()  # cloned: the activation behind it works in place

        return hook

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers]
    try:
        network(images)
    finally:
        for each in hooks:
            each.remove()
    return kept
