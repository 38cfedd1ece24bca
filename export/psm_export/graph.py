"""A small writer of ONNX graphs: nodes in order, one output each, named by what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 9
"""Both of ONNX 1.15 (2023): every ONNX Runtime from 1.17 on reads them."""


class Graph:
    """Collects nodes and initialisers. Names are given by the caller and must be new."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Store an array under a name, and return the name."""
        if name in self.initialisers:
            raise ValueError(f"initialiser {name!r} is there already")
        self.initialisers[name] = numpy_helper.from_array(value, name)
        return name

    def node(
        self, output: str, operator: str, inputs: Sequence[str], attributes: Mapping[str, Any] | None = None
    ) -> str:
        """Add a node that computes the tensor `output`, and return that name."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **(attributes or {})))
        return output

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Store a shape or other list of integers."""
        return self.constant(name, np.array(values, dtype=np.int64))

    def model(self, name: str, size_px: int, output: str, dimension: int) -> onnx.ModelProto:
        """Close the graph: input `crops` uint8 [N, size_px, size_px, 3], output float32 [N, dimension].

        Raises onnx.checker.ValidationError: the nodes do not fit together.
        """
        crops = helper.make_tensor_value_info("crops", TensorProto.UINT8, ["N", size_px, size_px, 3])
        embedding = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", dimension])
        graph = helper.make_graph(self.nodes, name, [crops], [embedding], list(self.initialisers.values()))
        return close(graph)


def close(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Wrap a graph into a checked model. It names no tool version, so that the same graph has the same bytes."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="psm-export")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model
