"""FaceCycle's expression encoder: its weights by the authors' names, and the same network as an ONNX graph.

Source: Chang, Chen, Chiu, "Learning Facial Representations from the Cycle-consistency of Face", ICCV 2021; the network
is their class `codegeneration`. Written from the layer table alone. Differs in two ways that leave the function as it
is: pixels are normalised inside the graph, and attention keeps positions in rows, which saves transposes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from psm_export.graph import Graph
from psm_stream.errors import BundleError

Weights = Mapping[str, NDArray[np.float32]]

ARCHITECTURE = "facecycle-expression-encoder"
SIZE_PX = 64
DIMENSION = 256
LEAK = 0.1
"""Slope of LeakyReLU below zero."""
_FLOAT = (
    "conv1.0",
    "layer2_1.0",
    "layer2_2.0",
    "layer2_2.2",
    "layer3_1.0",
    "layer3_2.2",
    "expresscode.0",
    "expresscode.2",
)
FLOAT_LAYERS = (_FLOAT, (*_FLOAT, "layer3_1.2", "layer3_2.0"))
"""What stays in float in an int8 model of this network that is made without a search: by what each layer costs in
accuracy and in measured time, on the general model. The first makes it 3.2 times as fast as PyTorch, the second 3.0
times. Attention in float gains nothing."""
PIXEL_MEAN = np.array([0.485, 0.456, 0.406]) * 255
PIXEL_DEVIATION = np.array([0.229, 0.224, 0.225]) * 255
"""[3] RGB, ImageNet's, in grey levels of 255."""

# (key, output channels, input channels, side of the kernel), in the order of the authors' checkpoint
_CONVOLUTIONS = (
    ("conv1.0", 64, 3, 7),
    ("conv1.2", 64, 64, 3),
    ("layer1.0", 64, 64, 3),
    ("layer1.2.g", 64, 64, 1),
    ("layer1.2.theta", 64, 64, 1),
    ("layer1.2.phi", 64, 64, 1),
    ("layer1.3", 64, 64, 3),
    ("layer2_1.0", 128, 64, 3),
    ("layer2_1.2.g", 128, 128, 1),
    ("layer2_1.2.theta", 128, 128, 1),
    ("layer2_1.2.phi", 128, 128, 1),
    ("layer2_1.3", 128, 128, 3),
    ("resblock1.conv1", 128, 128, 3),
    ("resblock1.conv2", 128, 128, 3),
    ("resblock2.conv1", 128, 128, 3),
    ("resblock2.conv2", 128, 128, 3),
    ("layer2_2.0", 128, 128, 3),
    ("layer2_2.2", 128, 128, 3),
    ("layer3_1.0", 256, 128, 3),
    ("layer3_1.2", 256, 256, 3),
    ("layer3_2.0", 256, 256, 3),
    ("layer3_2.2", 128, 256, 3),
)
_LINEARS = (("expresscode.0", 512, 2048), ("expresscode.2", 256, 512))


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of each of the 48 tensors, by the authors' key and in their order; 4,240,000 numbers in all."""
    layers: list[tuple[str, tuple[int, ...]]] = [(key, (out, into, k, k)) for key, out, into, k in _CONVOLUTIONS]
    layers += [(key, (out, into)) for key, out, into in _LINEARS]
    shapes: dict[str, tuple[int, ...]] = {}
    for key, shape in layers:
        shapes[f"{key}.weight"] = shape
        shapes[f"{key}.bias"] = shape[:1]
    return shapes


def check_weights(weights: Weights) -> None:
    """Check that these are the encoder's weights, all of them and nothing else.

    Raises BundleError: a key is missing or unknown, or a tensor has another shape or type, or is not finite.
    """
    shapes = weight_shapes()
    if missing := sorted(shapes.keys() - weights.keys()):
        raise BundleError(f"encoder weights: {len(missing)} of {len(shapes)} tensors are missing, first {missing[0]!r}")
    if unknown := sorted(weights.keys() - shapes.keys()):
        raise BundleError(f"encoder weights: unknown tensor {unknown[0]!r}; expected FaceCycle's `codegeneration`")
    for key, shape in shapes.items():
        tensor = weights[key]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise BundleError(
                f"encoder weights: {key!r} is {tensor.dtype} {list(tensor.shape)}, expected float32 {list(shape)}"
            )
        if not np.isfinite(tensor).all():
            raise BundleError(f"encoder weights: {key!r} has numbers that are not finite")


def pixel_range() -> tuple[float, float]:
    """Smallest and largest value that a normalised pixel can have, over the three colours."""
    return float((-PIXEL_MEAN / PIXEL_DEVIATION).min()), float(((255 - PIXEL_MEAN) / PIXEL_DEVIATION).max())


def build_model(weights: Weights) -> onnx.ModelProto:
    """Write the encoder as an ONNX model: `crops` uint8 [N, 64, 64, 3] RGB to `embedding` float32 [N, 256] in (-1, 1).

    weights: the authors' keys. Every tensor of the graph has the name that `psm_export.reference` traces it by.
    Raises BundleError: these are not the encoder's weights.
    """
    check_weights(weights)
    writer = _Writer(weights)
    x = writer.normalised("crops")
    x = writer.convolution(x, "conv1.0", stride=2)
    x = writer.convolution(x, "conv1.2")
    x = writer.convolution(x, "layer1.0")
    x = writer.attention(x, "layer1.2", side=32)
    x = writer.convolution(x, "layer1.3")
    x = writer.convolution(x, "layer2_1.0", stride=2)
    x = writer.attention(x, "layer2_1.2", side=16)
    x = writer.convolution(x, "layer2_1.3")
    x = writer.residual(x, "resblock1")
    x = writer.residual(x, "resblock2")
    x = writer.convolution(x, "layer2_2.0", stride=2)
    x = writer.convolution(x, "layer2_2.2")
    x = writer.convolution(x, "layer3_1.0", stride=2)
    x = writer.convolution(x, "layer3_1.2")
    x = writer.convolution(x, "layer3_2.0")
    x = writer.convolution(x, "layer3_2.2")
    x = writer.graph.node("flat", "Flatten", [x], {"axis": 1})
    x = writer.leaky(writer.linear(x, "expresscode.0"))
    x = writer.linear(x, "expresscode.2")
    writer.graph.node("embedding", "Tanh", [x])
    return writer.graph.model(ARCHITECTURE, SIZE_PX, "embedding", DIMENSION)


class _Writer:
    """Writes the encoder's blocks into a graph. Tensors are [N, C, H, W] between blocks."""

    def __init__(self, weights: Weights) -> None:
        self.graph = Graph()
        self.weights = weights
        for key in weight_shapes():  # a file's own order is another each time that safetensors reads it
            self.graph.constant(key, np.ascontiguousarray(weights[key]))

    def normalised(self, crops: str) -> str:
        """(pixel - mean) / deviation, by whole rows: ONNX Runtime takes 20 times longer over a last axis of 3."""
        graph = self.graph
        row = [0, SIZE_PX, SIZE_PX * 3]
        x = graph.node("pixels/float", "Cast", [crops], {"to": TensorProto.FLOAT})
        x = graph.node("pixels/rows", "Reshape", [x, graph.integers("pixels/rows.shape", row)])
        mean = graph.constant("pixels/mean", np.tile(PIXEL_MEAN, SIZE_PX).astype(np.float32))
        deviation = graph.constant("pixels/deviation", np.tile(PIXEL_DEVIATION, SIZE_PX).astype(np.float32))
        x = graph.node("pixels/centred", "Sub", [x, mean])
        x = graph.node("pixels/scaled", "Div", [x, deviation])
        shape = graph.integers("pixels/image.shape", [0, SIZE_PX, SIZE_PX, 3])
        x = graph.node("pixels/image", "Reshape", [x, shape])
        return graph.node("pixels", "Transpose", [x], {"perm": [0, 3, 1, 2]})

    def convolution(self, x: str, key: str, stride: int = 1) -> str:
        """Convolution, then LeakyReLU."""
        return self.leaky(self.plain_convolution(x, key, stride))

    def plain_convolution(self, x: str, key: str, stride: int = 1) -> str:
        """Convolution with zero padding that keeps the size when stride is 1."""
        side = self.weights[f"{key}.weight"].shape[2]
        shape = {"kernel_shape": [side, side], "strides": [stride, stride], "pads": [side // 2] * 4}
        return self.graph.node(key, "Conv", [x, f"{key}.weight", f"{key}.bias"], shape)

    def leaky(self, x: str) -> str:
        """LeakyReLU."""
        return self.graph.node(f"{x}/leaky", "LeakyRelu", [x], {"alpha": LEAK})

    def linear(self, x: str, key: str) -> str:
        """Linear layer over [N, features]."""
        return self.graph.node(key, "Gemm", [x, f"{key}.weight", f"{key}.bias"], {"transB": 1})

    def residual(self, x: str, key: str) -> str:
        """LeakyReLU(x + conv2(LeakyReLU(conv1(x))))."""
        inner = self.plain_convolution(self.convolution(x, f"{key}.conv1"), f"{key}.conv2")
        return self.leaky(self.graph.node(f"{key}/sum", "Add", [x, inner]))

    def attention(self, x: str, key: str, side: int) -> str:
        """LeakyReLU(x + phi theta' g), theta a softmax over positions and g one over channels.

        With positions P in rows it is g [P, C] times (theta [C, P] times phi [P, C]): the small [C, C] matrix comes
        first, so the cost is linear in P.
        """
        graph, channels = self.graph, self.weights[f"{key}.g.weight"].shape[0]
        rows = graph.integers(f"{key}/rows.shape", [0, side * side, channels])
        columns = graph.integers(f"{key}/columns.shape", [0, channels, side * side])
        g, phi = (self._rows(self.plain_convolution(x, f"{key}.{part}"), rows) for part in ("g", "phi"))
        theta = graph.node(f"{key}.theta/columns", "Reshape", [self.plain_convolution(x, f"{key}.theta"), columns])
        g = graph.node(f"{key}.g/softmax", "Softmax", [g], {"axis": 2})
        theta = graph.node(f"{key}.theta/softmax", "Softmax", [theta], {"axis": 2})
        mixing = graph.node(f"{key}/mixing", "MatMul", [theta, phi])
        out = graph.node(f"{key}/attended", "MatMul", [g, mixing])
        image = graph.integers(f"{key}/image.shape", [0, side, side, channels])
        out = graph.node(f"{key}/attended.image", "Reshape", [out, image])
        out = graph.node(f"{key}/attention", "Transpose", [out], {"perm": [0, 3, 1, 2]})
        return self.leaky(graph.node(f"{key}/sum", "Add", [x, out]))

    def _rows(self, x: str, shape: str) -> str:
        """[N, C, H, W] to [N, H*W, C]."""
        last = self.graph.node(f"{x}/last", "Transpose", [x], {"perm": [0, 2, 3, 1]})
        return self.graph.node(f"{x}/rows", "Reshape", [last, shape])
