"""Rounding by what a layer reads: patches are the definition's, and outputs err less than by the nearest step."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from psm_export.graph import close
from psm_export.precisions import rounding
from psm_export.precisions.rounding import Moments, can_round, fit
from psm_export.quantise import Layer, along, layers_of, nearest


def linear_layer(rng: np.random.Generator, transposed: bool = True) -> Layer:
    weight = rng.standard_normal((6, 40) if transposed else (40, 6)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=int(transposed))
    ends = (
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6])],
    )
    stored = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones(6, np.float32), "b")]
    return layers_of(close(helper.make_graph([node], "linear", *ends, stored)))[0]


def convolution(rng: np.random.Generator, **attributes: object) -> Layer:
    weight = rng.standard_normal((4, 3, 3, 2)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    return Layer("y", node, weight, None, 0, "x", "y")


@pytest.mark.parametrize("transposed", [True, False])
def test_outputs_err_less_than_by_the_nearest_step(rng: np.random.Generator, transposed: bool) -> None:
    layer = linear_layer(rng, transposed)
    mixing = rng.standard_normal((5, 40))  # inputs of rank 5, as neighbouring channels are alike
    seen, new = ((rng.standard_normal((2000, 5)) @ mixing + 3).astype(np.float32) for _ in range(2))
    moments = Moments(layer)
    moments.add(seen[:1000])
    moments.add(seen[1000:])
    errors = []
    for integers in (fit(moments), nearest(layer)):
        assert integers.steps.shape == layer.weight.shape
        assert np.abs(integers.steps).max() <= 63
        weight, own = integers.steps * along(layer, integers.scale), layer.weight
        error = new @ (weight - own).T if transposed else new @ (weight - own)
        errors.append(np.abs(error + integers.bias - layer.bias).mean())
    assert errors[0] < 0.3 * errors[1]


def test_values_on_the_steps_stay(rng: np.random.Generator) -> None:
    layer = linear_layer(rng)
    whole = rng.integers(-63, 64, layer.weight.shape).astype(np.float32)
    whole[:, 0] = 63
    moments = Moments(Layer(layer.name, layer.node, whole, layer.bias, 0, "x", "y"))
    moments.add(rng.standard_normal((500, 40)).astype(np.float32))
    integers = fit(moments)
    np.testing.assert_array_equal(integers.steps, whole)
    np.testing.assert_allclose(integers.bias, layer.bias, atol=1e-6)


def test_patches_are_what_the_convolution_reads(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "PLACES", 1000)
    layer = convolution(rng, strides=[2, 1], pads=[1, 0, 1, 1], kernel_shape=[3, 2])
    values = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    patches = rounding._patches(layer, values)
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (0, 1)))
    wanted = [
        padded[crop, :, row : row + 3, column : column + 2].ravel()
        for crop in range(2)
        for row in range(0, 6, 2)
        for column in range(5)
    ]
    assert sorted(map(bytes, patches)) == sorted(map(bytes, wanted))


def test_what_is_not_understood_is_left_to_the_nearest_step(rng: np.random.Generator) -> None:
    assert can_round(convolution(rng, kernel_shape=[3, 2]))
    for attributes in ({"group": 3}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}):
        assert not can_round(convolution(rng, **attributes))
