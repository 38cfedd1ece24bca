"""Half precision: weights and arithmetic in float16, where that is harmless.

Layers, rectifiers and sums of two run in float16. What comes before the first layer (pixels and how they are
normalised) stays in float32, and so does every operator that sums many values, exponentiates or divides: softmax,
means, norms, normalisation layers. Casts stand where the two meet; the CPU provider, which has few kernels for float16,
puts more of them in and computes in float32.

ONNX Runtime's own converter (`onnxruntime.transformers.float16`) was tried first: with the pixels kept in float32 it
gives nodes out of order, which onnx refuses; it moves weights below 6e-8 away from zero and cuts off what is too large
without a word.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from psm_export.graph import close
from psm_stream.errors import BundleError

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_HALF = _LAYERS | {"Add", "Sub", "Mul", "Relu", "LeakyRelu", "PRelu", "Tanh", "Sigmoid", "MaxPool", "GlobalMaxPool"}
_MOVING = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Expand"})
"""These move values; they run in whatever precision their first input has."""
LARGEST = 65504.0
"""Largest number that float16 holds."""


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write a float32 graph again in half precision: `crops` and `embedding` stay as they are.

    The same graph gives the same bytes. Raises BundleError: a weight does not fit float16, or the graph branches.
    """
    writer = _Writer(model)
    for node in model.graph.node:
        writer.write(node)
    ends = list(model.graph.input), list(model.graph.output)
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    return close(helper.make_graph(writer.nodes, model.graph.name, *ends, [*kept, *writer.halves.values()]))


class _Writer:
    """Copies nodes and puts casts between the precisions; each tensor is cast at most once."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.halves: dict[str, onnx.TensorProto] = {}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._floats = _float_tensors(model)
        self._ends = {end.name for end in model.graph.output}
        self._half: set[str] = set()
        self._learned: set[str] = set()
        self._cast: set[str] = set()

    def write(self, node: onnx.NodeProto) -> None:
        if any(one.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for one in node.attribute):
            raise BundleError(
                f"fp16: node {node.name!r} ({node.op_type}) branches, which half precision cannot; use fp32"
            )
        is_learned = node.op_type in _LAYERS or bool(self._learned & set(node.input))
        if is_learned:
            self._learned.update(node.output)
        is_moving = node.op_type in _MOVING
        is_half = node.input[0] in self._half if is_moving else is_learned and node.op_type in _HALF
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name in self._floats:
                copy.input[place] = self._as_half(name) if is_half else self._as_float(name)
        self.nodes.append(copy)
        if is_half:
            self._give(copy)

    def _give(self, node: onnx.NodeProto) -> None:
        """Note that a node gives halves; what leaves the graph is cast back under its own name."""
        for place, name in enumerate(node.output):
            if name not in self._floats:
                continue
            self._half.add(name)
            if name in self._ends:
                node.output[place] = node.name = f"{name}/half"
                self.nodes.append(_cast(f"{name}/half", name, TensorProto.FLOAT))
                self._half.discard(name)

    def _as_half(self, name: str) -> str:
        if name in self._half:
            return name
        half = f"{name}/half"
        if name in self._weights:
            self.halves.setdefault(half, _halved(self._weights[name], half))
        elif half not in self._cast:
            self._cast.add(half)
            self.nodes.append(_cast(name, half, TensorProto.FLOAT16))
        return half

    def _as_float(self, name: str) -> str:
        if name not in self._half:
            return name
        wide = f"{name}/float"
        if wide not in self._cast:
            self._cast.add(wide)
            self.nodes.append(_cast(name, wide, TensorProto.FLOAT))
        return wide


def _halved(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= LARGEST:
        raise BundleError(
            f"fp16: {tensor.name!r} holds {largest:g}, expected at most {LARGEST:g}, the largest number of half "
            "precision; use fp32"
        )
    return numpy_helper.from_array(values.astype(np.float16), name)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors: stored, given and computed."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    typed = [*graph.value_info, *graph.input, *graph.output]
    names = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=target, to=kind)
