"""Integer arithmetic for an encoder: 8-bit activations and 7-bit weights.

Each convolution and linear layer stands between pairs of QuantizeLinear and DequantizeLinear: it reads and gives uint8
with one scale per tensor, its weights are int8 with one scale per output channel, its bias is int32. Runtimes that know
the pattern run the layer in integers; any other computes the same in float. What lies between (attention, residual
sums) stays in float32.

Weights use 7 of 8 bits: on processors without VNNI two products of 8-bit numbers overflow their 16-bit sum, so the same
model would give other numbers there.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, section 2; here after training, with per-channel weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from psm_export.graph import close

Ranges = Mapping[str, tuple[float, float]]
"""Tensor name -> (smallest, largest) value."""

_LAYERS = ("Conv", "Gemm")
_WEIGHT_MAX = 63
_ACTIVATION_MAX = 255


def quantised_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors whose range `quantise` takes: inputs and outputs of the layers, in order."""
    layers = [node for node in model.graph.node if node.op_type in _LAYERS]
    return list(dict.fromkeys(name for node in layers for name in (node.input[0], node.output[0])))


def quantise(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Write a float32 model again with integer layers. model: Conv and Gemm (transB) with weights as initialisers.

    ranges: of each of `quantised_tensors(model)`, over inputs like those to come; what lies outside is clipped. An
    output that no layer reads may have none: it then stays float32. Raises KeyError: the range of an input is missing.
    """
    writer = _Writer(model, ranges)
    writer.quantise([end.name for end in model.graph.input])
    for node in model.graph.node:
        writer.write(node)
    ends = list(model.graph.input), list(model.graph.output)
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    return close(helper.make_graph(writer.nodes, model.graph.name, *ends, [*kept, *writer.initialisers]))


class _Writer:
    """Copies nodes, and puts a pair of QuantizeLinear and DequantizeLinear around each layer."""

    def __init__(self, model: onnx.ModelProto, ranges: Ranges) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        layers = [node for node in model.graph.node if node.op_type in _LAYERS]
        read = {node.input[0] for node in layers}
        names = [name for name in quantised_tensors(model) if name in read or name in ranges]
        self._scales = {name: _affine(*ranges[name]) for name in names}
        self._outputs = {node.output[0] for node in layers} & self._scales.keys()

    def write(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type in _LAYERS:
            inputs = [self._dequantised(node.input[0]), *self._parameters(node)]
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

    def _parameters(self, node: onnx.NodeProto) -> tuple[str, str]:
        """Write a layer's weight and bias as integers; the bias counts in steps of input scale times weight scale."""
        weight, bias = (self._weights[name] for name in node.input[1:3])
        per_channel = (-1, *[1] * (weight.ndim - 1))
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        scale = np.where(largest > 0, largest / _WEIGHT_MAX, 1).astype(np.float32)
        steps = np.rint(weight / scale.reshape(per_channel)).astype(np.int8)
        bias_scale = (scale * self._scales[node.input[0]][0]).astype(np.float32)
        return (
            self._add_integers(node.input[1], steps, scale),
            self._add_integers(node.input[2], np.rint(bias / bias_scale).astype(np.int32), bias_scale),
        )

    def _add_integers(self, name: str, steps: NDArray[np.int8] | NDArray[np.int32], scale: NDArray[np.float32]) -> str:
        inputs = [self._constant(f"{name}/quantised", steps), self._constant(f"{name}/scale", scale)]
        inputs.append(self._constant(f"{name}/zero", np.zeros(len(scale), steps.dtype)))
        self.nodes.append(_node("DequantizeLinear", inputs, self._dequantised(name), axis=0))
        return self._dequantised(name)

    def _constant(self, name: str, value: object) -> str:
        self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _affine(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that map a range onto 0..255, with zero exactly on a step."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / _ACTIVATION_MAX) or np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, _ACTIVATION_MAX))


def _node(operator: str, inputs: list[str], output: str, axis: int | None = None) -> onnx.NodeProto:
    attributes = {} if axis is None else {"axis": axis}
    return helper.make_node(operator, inputs, [output], name=output, **attributes)
