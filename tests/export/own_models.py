"""Small models of somebody's own, for the tests that export them: an ONNX graph written by hand, and its manifest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE_PX = 16
DIMENSION = 5


def network(
    batch: int | str = "N",
    layout: str = "NCHW",
    opset: int = 17,
    ends: tuple[str, str] = ("face", "code"),
    has_flat_output: bool = True,
) -> onnx.ModelProto:
    """A convolution, a mean over places, a linear layer; what people's exporters write, in small."""
    draw = np.random.default_rng(4)
    weights = {
        "conv.weight": draw.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "fc.weight": draw.standard_normal((DIMENSION, 4)).astype(np.float32),
        "fc.bias": draw.standard_normal(DIMENSION).astype(np.float32),
    }
    given, result = ends
    nodes = []
    x = given
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [x], ["planes"], perm=[0, 3, 1, 2]))
        x = "planes"
    nodes += [
        helper.make_node("Conv", [x, "conv.weight"], ["conv"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean"]),
        helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([batch_first(batch), 4]))),
        helper.make_node("Reshape", ["mean", "shape"], ["rows"]),
        helper.make_node("Gemm", ["rows", "fc.weight", "fc.bias"], ["linear"], transB=1),
    ]
    if has_flat_output:
        nodes.append(helper.make_node("Tanh", ["linear"], [result]))
    else:
        nodes.append(helper.make_node("Tanh", ["linear"], ["tanh"]))
        places = numpy_helper.from_array(np.array([batch_first(batch), DIMENSION, 1, 1]))
        nodes.append(helper.make_node("Constant", [], ["places"], value=places))
        nodes.append(helper.make_node("Reshape", ["tanh", "places"], [result]))
    shape = [batch, 3, SIZE_PX, SIZE_PX] if layout == "NCHW" else [batch, SIZE_PX, SIZE_PX, 3]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def batch_first(batch: int | str) -> int:
    return 1 if batch == 1 else -1


def obvious(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `network` computes for images [N, 3, 16, 16], in numpy. Returns [N, 5]."""
    weights = {tensor.name: numpy_helper.to_array(tensor).astype(float) for tensor in network().graph.initializer}
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    maps = np.zeros((len(images), 4, 8, 8))
    for row, column in np.ndindex(3, 3):
        seen = padded[:, :, row : row + 16 : 2, column : column + 16 : 2]
        maps += np.einsum("oc,nchw->nohw", weights["conv.weight"][:, :, row, column], seen)
    rows = np.maximum(maps, 0).mean(axis=(2, 3))
    return np.tanh(rows @ weights["fc.weight"].T + weights["fc.bias"])


def manifest(**changes: Any) -> dict[str, Any]:
    """The keys of `network`'s manifest. changes: dotted as `input__range`."""
    tree: dict[str, Any] = {
        "input": {"size_px": SIZE_PX, "range": "0..1"},
        "output": {"dimension": DIMENSION},
        "alignment": {"eye_distance": 0.4, "eye_line_y": 0.35},
    }
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return tree


def write(folder: Path, model: onnx.ModelProto | None = None, **changes: Any) -> Path:
    """Write a model and its manifest beside it. Returns the model's path."""
    onnx.save_model(model or network(), folder / "own.onnx")
    write_manifest(folder, **changes)
    return folder / "own.onnx"


def write_manifest(folder: Path, **changes: Any) -> None:
    (folder / "own.json").write_text(json.dumps(manifest(**changes)), encoding="utf-8")


def crops(count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (count, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
