"""Integer arithmetic for an encoder: 8-bit activations and 7-bit weights.

Each convolution and linear layer stands between pairs of QuantizeLinear and DequantizeLinear: it reads and gives uint8
with one scale per tensor, its weights are int8 with one scale per output channel, its bias is int32. Runtimes that know
the pattern run the layer in integers; any other computes the same in float. What lies between (attention, residual
sums) stays in float32, and so does a layer that is named so, or whose weights the graph computes.

Weights use 7 of 8 bits: on processors without VNNI two products of 8-bit numbers overflow their 16-bit sum, so the same
model would give other numbers there.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, section 2; here after training, with per-channel weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from psm_export.graph import close

Ranges = Mapping[str, tuple[float, float]]
"""Tensor name -> (smallest, largest) value."""

WEIGHT_MAX = 63
ACTIVATION_MAX = 255
_LAYERS = ("Conv", "Gemm", "MatMul")
_RECTIFIERS = ("Relu",)
"""Runtimes clip by the zero point instead of running these, so what a layer gives is quantised behind them."""


@dataclass(frozen=True, slots=True)
class Integers:
    """What a layer computes with, in place of its own weights.

    steps: int8, -63..63, of the weight's shape. scale: float32 [outputs], size of a step. bias: float [outputs], None
    where the layer has none.
    """

    steps: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32] | NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that can run in integers. name: of the tensor that it gives. axis: of the weight's outputs.

    reads, gives: the tensors that are quantised before and behind it; `gives` lies behind a ReLU where one follows.
    """

    name: str
    node: onnx.NodeProto
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    axis: int
    reads: str
    gives: str


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """Find the layers that `quantise` can do, in order: Conv, Gemm and MatMul with weights of their own.

    Left out are layers with computed weights, weights that two layers share, and a Gemm that does more than x w + b.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    ends = {end.name for end in model.graph.output}
    readers = _readers(model)
    layers = []
    for node in model.graph.node:
        own = [name for name in node.input[1:] if name]
        fits = node.op_type in _LAYERS and _is_plain(node) and node.input[0] not in stored
        if not fits or not own or any(name not in stored or len(readers[name]) > 1 for name in own):
            continue
        weight, *bias = (numpy_helper.to_array(stored[name]) for name in own)
        axis = _axis(node)
        if weight.dtype != np.float32 or (node.op_type != "Conv" and weight.ndim != 2):
            continue
        if bias and bias[0].shape != weight.shape[axis : axis + 1]:
            continue
        name, reader = node.output[0], readers.get(node.output[0], [])
        is_rectified = len(reader) == 1 and reader[0].op_type in _RECTIFIERS and name not in ends
        gives = reader[0].output[0] if is_rectified else name
        layers.append(Layer(name, node, weight, bias[0] if bias else None, axis, node.input[0], gives))
    return layers


def quantised_tensors(model: onnx.ModelProto, float_layers: Collection[str] = ()) -> list[str]:
    """Names of the tensors whose range `quantise` takes: inputs and outputs of the layers, in order."""
    layers = [layer for layer in layers_of(model) if layer.name not in float_layers]
    return list(dict.fromkeys(name for layer in layers for name in (layer.reads, layer.gives)))


def quantise(
    model: onnx.ModelProto,
    ranges: Ranges,
    float_layers: Collection[str] = (),
    integers: Mapping[str, Integers] | None = None,
) -> onnx.ModelProto:
    """Write a float32 model again with integer layers.

    ranges: of each of `quantised_tensors(model, float_layers)`, over inputs like those to come; what lies outside is
    clipped. An output that no integer layer reads may have none: it then stays float32. float_layers: names of layers
    that stay in float. integers: by layer name, where weights were rounded otherwise than to the nearest step.
    Raises KeyError: the range of an input is missing.
    """
    layers = {layer.name: layer for layer in layers_of(model) if layer.name not in float_layers}
    writer = _Writer(layers, ranges, integers or {})
    writer.quantise([end.name for end in model.graph.input])
    for node in model.graph.node:
        writer.write(node)
    ends = list(model.graph.input), list(model.graph.output)
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    return close(helper.make_graph(writer.nodes, model.graph.name, *ends, [*kept, *writer.initialisers]))


def nearest(layer: Layer) -> Integers:
    """Round a layer's weights to the nearest step, the largest of each output to the last."""
    scale = weight_scale(layer.weight, layer.axis)
    return Integers(np.rint(layer.weight / along(layer, scale)).astype(np.int8), scale, layer.bias)


def weight_scale(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Size of a step for each output, so that its largest weight is the last step. Returns [outputs]."""
    largest = np.abs(weight).max(axis=tuple(other for other in range(weight.ndim) if other != axis))
    return np.where(largest > 0, largest / WEIGHT_MAX, 1).astype(np.float32)


def along(layer: Layer, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape one value per output so that it multiplies the layer's weight."""
    shape = [1] * layer.weight.ndim
    shape[layer.axis] = -1
    return values.reshape(shape)


def affine(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that map a range onto 0..255, with zero exactly on a step."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / ACTIVATION_MAX) or np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, ACTIVATION_MAX))


class _Writer:
    """Copies nodes, and puts a pair of QuantizeLinear and DequantizeLinear around each layer."""

    def __init__(self, layers: Mapping[str, Layer], ranges: Ranges, integers: Mapping[str, Integers]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._layers = layers
        self._integers = integers
        read = {layer.reads for layer in layers.values()}
        names = dict.fromkeys(name for layer in layers.values() for name in (layer.reads, layer.gives))
        self._scales = {name: affine(*ranges[name]) for name in names if name in read or name in ranges}
        self._outputs = {layer.gives for layer in layers.values()} & self._scales.keys()

    def write(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        layer = self._layers.get(node.output[0])
        if layer is not None:
            inputs = [self._dequantised(node.input[0]), *self._parameters(layer)]
        else:  # a float operator reads integers only where a layer gave them
            inputs = [self._dequantised(name) if name in self._outputs else name for name in node.input]
        del copy.input[:]
        copy.input.extend(inputs)
        self.nodes.append(copy)
        self.quantise(node.output)

    def quantise(self, names: Iterable[str]) -> None:
        """Put a pair behind each of these tensors that a layer reads or gives."""
        for name in names:
            if name in self._scales:
                self._add_pair(name)

    def _dequantised(self, name: str) -> str:
        return f"{name}/dequantised"

    def _add_pair(self, name: str) -> None:
        scale, zero = self._scales[name]
        step = [self._constant(f"{name}/scale", scale), self._constant(f"{name}/zero", zero)]
        self.nodes.append(_node("QuantizeLinear", [name, *step], f"{name}/quantised"))
        self.nodes.append(_node("DequantizeLinear", [f"{name}/quantised", *step], self._dequantised(name)))

    def _parameters(self, layer: Layer) -> list[str]:
        """Write a layer's weight and bias as integers; the bias counts in steps of input scale times weight scale."""
        own = self._integers.get(layer.name) or nearest(layer)
        names = [self._add_integers(layer.node.input[1], own.steps, own.scale, layer.axis)]
        if own.bias is not None:
            bias_scale = (own.scale * self._scales[layer.reads][0]).astype(np.float32)
            bias_name = layer.node.input[2] if layer.bias is not None else f"{layer.name}/bias"
            bias = np.rint(own.bias / bias_scale).astype(np.int32)
            names.append(self._add_integers(bias_name, bias, bias_scale, 0))
        return names

    def _add_integers(
        self, name: str, steps: NDArray[np.int8] | NDArray[np.int32], scale: NDArray[np.float32], axis: int
    ) -> str:
        inputs = [self._constant(f"{name}/quantised", steps), self._constant(f"{name}/scale", scale)]
        inputs.append(self._constant(f"{name}/zero", np.zeros(len(scale), steps.dtype)))
        self.nodes.append(_node("DequantizeLinear", inputs, self._dequantised(name), axis=axis))
        return self._dequantised(name)

    def _constant(self, name: str, value: object) -> str:
        self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each tensor; a node that reads it twice is there twice."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _is_plain(node: onnx.NodeProto) -> bool:
    """Whether a Gemm is no more than a linear layer."""
    wanted = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    return node.op_type != "Gemm" or all(
        helper.get_attribute_value(one) == wanted.get(one.name, helper.get_attribute_value(one))
        for one in node.attribute
    )


def _axis(node: onnx.NodeProto) -> int:
    """Axis of a weight along which its outputs lie."""
    if node.op_type == "Conv":
        return 0
    transposed = node.op_type == "Gemm" and any(one.name == "transB" and one.i for one in node.attribute)
    return 0 if transposed else 1


def _node(operator: str, inputs: list[str], output: str, axis: int | None = None) -> onnx.NodeProto:
    attributes = {} if axis is None else {"axis": axis}
    return helper.make_node(operator, inputs, [output], name=output, **attributes)
