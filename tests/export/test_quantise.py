"""Integer graphs: close to the float graph, and exactly what the pattern says."""

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from psm_export.graph import close
from psm_export.quantise import quantise, quantised_tensors


def linear_model(weight: np.ndarray, bias: np.ndarray) -> ModelProto:
    """float [N, in] -> Gemm -> LeakyRelu -> float [N, out]."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1),
        helper.make_node("LeakyRelu", ["y"], ["z"], alpha=0.1),
    ]
    ends = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", weight.shape[1]])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", weight.shape[0]])],
    ]
    tensors = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    return close(helper.make_graph(nodes, "linear", *ends, tensors))


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"x": x})[0]
    return result


def test_the_ends_of_each_layer_are_quantised(rng: np.random.Generator) -> None:
    model = linear_model(rng.standard_normal((4, 8), np.float32), np.zeros(4, np.float32))
    assert quantised_tensors(model) == ["x", "y"]
    with pytest.raises(KeyError):
        quantise(model, {"y": (-1, 1)})


def test_integers_stay_within_their_steps(rng: np.random.Generator) -> None:
    weight, bias = rng.standard_normal((4, 8), np.float32), rng.standard_normal(4, np.float32)
    model = linear_model(weight, bias)
    x = rng.uniform(-1, 1, (50, 8)).astype(np.float32)
    wanted = run(model, x)
    y = x @ weight.T + bias
    given = run(quantise(model, {"x": (-1, 1), "y": (float(y.min()), float(y.max()))}), x)
    step_in, step_out = 2 / 255, float(y.max() - y.min()) / 255
    worst = 8 * (np.abs(weight).max() * step_in / 2 + np.abs(weight).max() / 63 / 2) + step_out
    assert 0 < np.abs(given - wanted).max() < worst


def test_values_on_the_steps_are_exact() -> None:
    """Weights and inputs that are whole steps come through without any error: the scales mean what they say."""
    weight = np.array([[63, -21, 0], [1, 2, -63]], np.float32)
    bias = np.array([4, -8], np.float32)
    model = quantise(linear_model(weight, bias), {"x": (-1.0, 254.0), "y": (-10200.0, 15300.0)})
    x = np.array([[0, 0, 0], [100, 0, 100], [254, 0, 254]], np.float32)
    y = np.clip(np.rint((x @ weight.T + bias) / 100) * 100, -10200, 15300)
    np.testing.assert_allclose(run(model, x), np.where(y > 0, y, 0.1 * y), rtol=1e-6)


def test_zero_is_exact_and_what_lies_outside_is_clipped() -> None:
    model = quantise(linear_model(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)), {"x": (0.1, 1), "y": (0.3, 1)})
    given = run(model, np.array([[0, 5]], np.float32))
    assert given[0, 0] == 0
    assert given[0, 1] == pytest.approx(1, abs=0.01)


def test_weights_use_seven_bits_and_a_dead_channel_is_no_trouble(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((4, 8), np.float32)
    weight[2] = 0
    model = quantise(linear_model(weight, np.zeros(4, np.float32)), {"x": (-1, 1), "y": (-5, 5)})
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert stored["w/quantised"].dtype == np.int8
    assert np.abs(stored["w/quantised"]).max(axis=1).tolist() == [63, 63, 0, 63]
    assert "w" not in stored


def test_an_output_without_a_range_stays_float(rng: np.random.Generator) -> None:
    """Its numbers are those of the same integers, neither rounded nor clipped once more."""
    weight, bias = np.array([[63, -21, 0], [1, 2, -63]], np.float32), np.array([4, -8], np.float32)
    x = rng.integers(0, 255, (20, 3)).astype(np.float32)
    y = x @ weight.T + bias
    model = linear_model(weight, bias)
    np.testing.assert_allclose(run(quantise(model, {"x": (-1, 254)}), x), np.where(y > 0, y, 0.1 * y), rtol=1e-5)


def chain(second: str, rng: np.random.Generator) -> ModelProto:
    """float [N, 4, 6, 6] -> grouped Conv without bias -> Relu -> flat -> linear, of one kind or the other."""
    convolution = {"kernel_shape": [3, 3], "group": 2, "strides": [2, 2], "pads": [1, 1, 1, 1]}
    linear = ["f", "v", "b"] if second == "Gemm" else ["f", "v"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], **convolution),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node(second, linear, ["y"]),
    ]
    drawn = {"w": (8, 2, 3, 3), "v": (72, 5), "b": (5,)}
    tensors = [numpy_helper.from_array(rng.standard_normal(shape, np.float32), name) for name, shape in drawn.items()]
    ends = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
    ]
    kept = [tensor for tensor in tensors if any(tensor.name in node.input for node in nodes)]
    return close(helper.make_graph(nodes, "chain", *ends, kept))


@pytest.mark.parametrize("second", ["Gemm", "MatMul"])
def test_groups_strides_missing_biases_and_untransposed_weights(second: str, rng: np.random.Generator) -> None:
    model = chain(second, rng)
    assert quantised_tensors(model) == ["x", "r", "f", "y"], "behind the ReLU, not before it"
    x = rng.uniform(-1, 1, (20, 4, 6, 6)).astype(np.float32)
    wanted = run(model, x)
    made = quantise(model, {"x": (-1, 1), "r": (0, 8), "f": (0, 8)})
    error = np.abs(run(made, x) - wanted)
    assert 0 < error.mean() < 0.03 * np.abs(wanted).mean()
    left = quantise(model, {"f": (0, 8)}, float_layers=["c"])
    assert [node.op_type for node in left.graph.node].count("QuantizeLinear") == 1
    assert 0 < np.abs(run(left, x) - wanted).mean() < error.mean()


def test_layers_that_cannot_be_done_stay_in_float(rng: np.random.Generator) -> None:
    """Weights that two layers share, computed weights, and a Gemm that scales."""
    model = linear_model(rng.standard_normal((4, 4), np.float32), np.zeros(4, np.float32))
    shared = ModelProto()
    shared.CopyFrom(model)
    shared.graph.node.insert(0, helper.make_node("Gemm", ["x", "w", "b"], ["x2"], transB=1))
    shared.graph.node[1].input[0] = "x2"
    scaled = ModelProto()
    scaled.CopyFrom(model)
    scaled.graph.node[0].attribute.append(helper.make_attribute("alpha", 0.5))
    computed = ModelProto()
    computed.CopyFrom(model)
    computed.graph.node.insert(0, helper.make_node("Neg", ["w"], ["w2"]))
    computed.graph.node[1].input[1] = "w2"
    for other in (shared, scaled, computed):
        assert quantised_tensors(other) == []
        x = rng.standard_normal((3, 4), np.float32)
        np.testing.assert_array_equal(run(quantise(other, {}), x), run(other, x))
