"""Integers where they do, float where the measurement asks for it: nearer than all in integers, within the budget."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from psm_export.graph import Graph
from psm_export.precisions import CONVERTERS
from psm_export.precisions.integers import Recipe, attempts, costs, multiplications, to_int8
from psm_export.precisions.observe import embed


def unheard(done: int, of: int, words: str) -> None:
    del done, of, words


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Convolution, ReLU, a convolution with one wild channel, mean, two linear layers of either kind."""
    rng = np.random.default_rng(0)
    graph = Graph()

    def drawn(name: str, *shape: int) -> str:
        return graph.constant(name, (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    x = graph.node("float", "Cast", ["crops"], {"to": TensorProto.FLOAT})
    x = graph.node("unit", "Div", [x, graph.constant("255", np.float32(255))])
    x = graph.node("image", "Transpose", [x], {"perm": [0, 3, 1, 2]})
    pads = {"kernel_shape": [3, 3], "pads": [1] * 4}
    x = graph.node(
        "one", "Conv", [x, drawn("one.weight", 8, 3, 3, 3), drawn("one.bias", 8)], {**pads, "strides": [2] * 2}
    )
    x = graph.node("rectified", "Relu", [x])
    wild = drawn("two.weight", 8, 8, 3, 3)
    values = np.array(onnx.numpy_helper.to_array(graph.initialisers[wild]))
    values[0] *= 50
    graph.initialisers[wild] = onnx.numpy_helper.from_array(values, wild)
    x = graph.node("two", "Conv", [x, wild], pads)
    x = graph.node("mean", "ReduceMean", [x, graph.integers("axes", [2, 3])], {"keepdims": 0})
    x = graph.node("three", "MatMul", [x, drawn("three.weight", 8, 12)])
    x = graph.node("bent", "Tanh", [x])
    graph.node("embedding", "Gemm", [x, drawn("four.weight", 6, 12), drawn("four.bias", 6)], {"transB": 1})
    return graph.model("small", 16, "embedding", 6)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def far(model: onnx.ModelProto, other: onnx.ModelProto, crops: np.ndarray) -> float:
    wanted, given = embed(model, crops), embed(other, crops)
    lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(given, axis=1)
    return float((1 - (wanted * given).sum(axis=1) / lengths).mean())


def test_multiplications_are_those_of_the_definition(model: onnx.ModelProto) -> None:
    assert multiplications(model) == {
        "one": 8 * 8 * 8 * 27,
        "two": 8 * 8 * 8 * 72,
        "three": 8 * 12,
        "embedding": 12 * 6,
    }


def test_the_search_stops_when_it_is_near_enough(model: onnx.ModelProto, crops: np.ndarray) -> None:
    calibration, others = crops[:30], crops[30:]
    loose = to_int8(model, calibration, unheard, Recipe(enough=1.0))
    none = to_int8(model, calibration, unheard, Recipe(enough=0.0, budget=0.0))
    every = to_int8(model, calibration, unheard, Recipe(enough=-1.0, budget=1.0, least=0.0))
    assert loose.float_nodes == none.float_nodes == ()
    assert every.float_nodes == ("one", "two", "three", "embedding")
    assert far(model, every.graph, others) < 1e-6 < far(model, none.graph, others) < 0.05
    between = to_int8(
        model, calibration, unheard, Recipe(enough=far(model, none.graph, calibration) / 3, budget=1.0, least=0.0)
    )
    assert 0 < len(between.float_nodes) < 4
    assert far(model, between.graph, others) < 0.5 * far(model, none.graph, others)


def test_float_layers_stay_within_the_budget(model: onnx.ModelProto, crops: np.ndarray) -> None:
    counts = costs(model)
    for budget in (0.1, 0.3):
        kept = to_int8(model, crops[:30], unheard, Recipe(enough=-1.0, budget=budget, least=0.0)).float_nodes
        assert kept
        assert sum(counts[name] for name in kept) <= budget * sum(counts.values())


def test_the_same_crops_give_the_same_bytes_and_progress_is_told(model: onnx.ModelProto, crops: np.ndarray) -> None:
    told: list[tuple[int, int, str]] = []
    made = [
        next(CONVERTERS["int8"](model, crops[:20], lambda *step: told.append(step))).graph.SerializeToString(
            deterministic=True
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert [done for done, _, _ in told] == list(range(9)) * 2
    assert {of for _, of, _ in told} == {8}


def test_a_graph_without_layers_comes_back() -> None:
    graph = Graph()
    x = graph.node("float", "Cast", ["crops"], {"to": TensorProto.FLOAT})
    graph.node("embedding", "ReduceMean", [x, graph.integers("axes", [1, 2])], {"keepdims": 0})
    model = graph.model("plain", 8, "embedding", 3)
    assert to_int8(model, np.zeros((4, 8, 8, 3), np.uint8), unheard).graph == model


def test_each_attempt_keeps_more_in_float_and_none_is_given_twice(model: onnx.ModelProto, crops: np.ndarray) -> None:
    recipes = [Recipe(enough=1.0), Recipe(enough=1.0, budget=0.3), Recipe(enough=-1.0, budget=1.0, least=0.0)]
    made = list(attempts(model, crops[:20], unheard, recipes))
    assert [len(one.float_nodes) for one in made] == [0, len(costs(model))]
    assert far(model, made[1].graph, crops[:20]) < far(model, made[0].graph, crops[:20])
