"""What the layers of a graph give: the values of inner tensors, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from psm_export.model import Crops

Layers = Mapping[str, NDArray[np.float32]]
"""Tensor name -> values [N, ...]."""
_LAYERS = ("Conv", "Gemm", "MatMul", "QLinearConv", "ConvTranspose")


def layer_names(graph: onnx.ModelProto) -> list[str]:
    """Names of the tensors that convolutions and matrix products give, in order of computation."""
    return [node.output[0] for node in graph.graph.node if node.op_type in _LAYERS]


def layer_values(graph: onnx.ModelProto, names: Sequence[str], crops: Crops) -> dict[str, NDArray[np.float32]]:
    """Run a graph on the CPU and return those of the named tensors that it has. crops: [N, S, S, 3].

    Runtimes merge layers whose values nobody wants to see, so the last bits may differ from a run without looking.
    """
    import onnxruntime

    made = {name for node in graph.graph.node for name in node.output}
    wanted = [name for name in dict.fromkeys(names) if name in made]
    if not wanted:
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    ends = {end.name for end in graph.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in ends)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(wanted, {"crops": crops})
    return {name: np.asarray(value, np.float32) for name, value in zip(wanted, values, strict=True)}
