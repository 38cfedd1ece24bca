"""Half precision: near the float graph, the same ends, and what does not fit is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from psm_export import facecycle
from psm_export.crops import photograph
from psm_export.graph import Graph
from psm_export.precisions.half import to_fp16
from psm_export.precisions.observe import embed
from psm_stream.errors import BundleError


def small_model(scale: float = 1.0) -> onnx.ModelProto:
    """crops [N, 8, 8, 3] -> scaled pixels -> linear -> softmax -> embedding [N, 4]."""
    graph = Graph()
    x = graph.node("x", "Cast", ["crops"], {"to": TensorProto.FLOAT})
    x = graph.node("flat", "Flatten", [x])
    x = graph.node("far", "Mul", [x, graph.constant("thousand", np.float32(1000))])
    x = graph.node("near", "Div", [x, graph.constant("divisor", np.float32(2550000))])
    weight = np.random.default_rng(3).standard_normal((192, 4)).astype(np.float32) * np.float32(scale)
    x = graph.node("layer", "MatMul", [x, graph.constant("weight", weight)])
    graph.node("embedding", "Softmax", [x], {"axis": 1})
    return graph.model("small", 8, "embedding", 4)


def test_the_encoder_in_half_precision_is_near_and_half_as_large(weights: dict) -> None:
    model = facecycle.build_model(weights)
    half = to_fp16(model)
    assert half.graph.input == model.graph.input
    assert half.graph.output == model.graph.output
    assert half.ByteSize() < 0.51 * model.ByteSize()
    wanted, given = embed(model, photograph()), embed(half, photograph())
    assert given.dtype == np.float32
    assert 0 < np.abs(wanted - given).max() < 5e-3
    assert to_fp16(model).SerializeToString(deterministic=True) == half.SerializeToString(deterministic=True)


def test_pixels_and_exponentials_stay_in_float32() -> None:
    """A thousand grey levels squared do not fit float16; here they come and go before the first layer."""
    model, crops = small_model(), np.full((1, 8, 8, 3), 255, np.uint8)
    half = to_fp16(model)
    np.testing.assert_allclose(embed(half, crops), embed(model, crops), rtol=0, atol=5e-3)
    kinds = {node.op_type: [*node.input] for node in half.graph.node}
    assert kinds["MatMul"] == ["near/half", "weight/half"]
    assert kinds["Softmax"] == ["layer/float"]
    assert kinds["Mul"] == ["flat", "thousand"]


def test_a_weight_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BundleError, match=r"fp16: 'weight' holds .*, expected at most 65504, .*use fp32"):
        to_fp16(small_model(scale=1e5))


def test_a_graph_that_branches_is_refused() -> None:
    model = small_model()
    inner = helper.make_graph([helper.make_node("Identity", ["layer"], ["y"])], "then", [], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    ])  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "is_so"))
    model.graph.node.append(helper.make_node("If", ["is_so"], ["z"], "z", then_branch=inner, else_branch=inner))
    with pytest.raises(BundleError, match=r"'z' .If. branches"):
        to_fp16(model)
