"""What tensors of a graph hold over some crops, by ONNX Runtime on one thread of the CPU.

The last bits depend on the processor; the same crops on the same processor give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from psm_export.model import Crops

AT_ONCE = 8
"""Crops in memory at a time."""

Values = Mapping[str, NDArray[np.float32]]


def embed(model: onnx.ModelProto, crops: Crops) -> NDArray[np.float32]:
    """Run a model. crops: [N, S, S, 3]. Returns [N, D]."""
    session = open_session(model)
    return np.concatenate([session.run(None, {"crops": chunk})[0] for chunk in chunks(crops)])


def tensors(model: onnx.ModelProto, names: Sequence[str], crops: Crops) -> Iterator[Values]:
    """Give float32 tensors, by name, a few crops [N, S, S, 3] at a time. Only what they depend on is run."""
    session = open_session(_cut(model, names))
    for chunk in chunks(crops):
        yield dict(zip(names, session.run(list(names), {"crops": chunk}), strict=True))


def chunks(crops: Crops) -> Iterator[Crops]:
    """Give crops [N, S, S, 3] a few at a time."""
    for start in range(0, len(crops), AT_ONCE):
        yield crops[start : start + AT_ONCE]


def open_session(model: onnx.ModelProto) -> Any:
    """Open a session on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = model.SerializeToString(deterministic=True)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _cut(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return the part of a graph that these tensors depend on, with them as its outputs."""
    needed, nodes = set(names), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    stored = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(nodes[::-1], model.graph.name, list(model.graph.input), outputs, stored)
    cut = helper.make_model(graph, opset_imports=list(model.opset_import))
    cut.ir_version = model.ir_version
    return cut
