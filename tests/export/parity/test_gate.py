"""The gate: exports that compute something else are refused, and the reason is the right one."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from psm_export.crops import photograph
from psm_export.graph import Graph
from psm_export.model import Crops, Model
from psm_export.parity.gate import LIMITS, blame, check_batches, hold, judge, layers_off, refuse, yardstick
from psm_export.sources.drawn import drawn
from psm_stream.bundle import Precision
from psm_stream.errors import BundleError

WORDS = ("a reference", "some crops", "a provider")
Spoil = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def crops() -> Crops:
    return np.concatenate([photograph(), photograph(mirrored=True)])


@pytest.fixture(scope="module")
def model() -> Model:
    return drawn("facecycle-expression-encoder")


@pytest.fixture(scope="module")
def graph(model: Model) -> onnx.ModelProto:
    return model.build()


def noise(key: str, share: float) -> Spoil:
    """Disturb the weights of one layer by a share of their own size."""

    def spoil(graph: onnx.ModelProto) -> None:
        (tensor,) = [one for one in graph.graph.initializer if one.name == key]
        values = numpy_helper.to_array(tensor)
        draw = np.random.default_rng(0).standard_normal(values.shape)
        changed = (values + share * np.abs(values).mean() * draw).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(changed, key))

    return spoil


def colours_swapped(graph: onnx.ModelProto) -> None:
    (tensor,) = [one for one in graph.graph.initializer if one.name == "conv1.0.weight"]
    swapped = np.ascontiguousarray(numpy_helper.to_array(tensor)[:, ::-1])
    tensor.CopyFrom(numpy_helper.from_array(swapped, tensor.name))


def normalised_otherwise(graph: onnx.ModelProto) -> None:
    (tensor,) = [one for one in graph.graph.initializer if one.name == "pixels/deviation"]
    other = np.full_like(numpy_helper.to_array(tensor), 0.225 * 255)  # one deviation for all colours
    tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))


def spoilt(graph: onnx.ModelProto, spoil: Spoil) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    spoil(copy)
    return copy


def test_an_export_that_is_right_passes(model: Model, graph: onnx.ModelProto, crops: Crops) -> None:
    held = hold(yardstick(model, crops, "a photograph"), graph, "fp32")
    assert held.failures == ()
    assert held.parity.cosine == pytest.approx(1, abs=1e-6)
    assert (held.parity.neighbours_kept, held.parity.clusters_kept) == (1, None)  # too few for clusters
    assert (held.parity.of, held.parity.provider) == ("a photograph", "CPUExecutionProvider")
    assert layers_off(model, graph, crops) == ()
    assert check_batches(graph.SerializeToString(), crops) == ()


@pytest.mark.parametrize("key", ["conv1.0", "layer1.2.theta", "resblock2.conv1", "layer3_2.2", "expresscode.2"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_layers_weights_that_are_wrong_are_found_and_named(
    key: str, precision: Precision, model: Model, graph: onnx.ModelProto, crops: Crops
) -> None:
    wrong = spoilt(graph, noise(f"{key}.weight", 0.5))
    (named,) = layers_off(model, wrong, crops)
    assert f"worst node: {key}," in named
    if key != "layer1.2.theta":  # on which the embedding hardly depends: only the layers tell
        assert hold(yardstick(model, crops, ""), wrong, precision).failures
    assert blame(model, wrong, crops, is_rescaled=False) == named


@pytest.mark.parametrize("key", ["conv1.2.bias", "layer2_1.2.phi.weight", "resblock1.conv2.weight"])
def test_a_thousandth_is_found_in_a_float_graph(key: str, model: Model, graph: onnx.ModelProto, crops: Crops) -> None:
    (named,) = layers_off(model, spoilt(graph, noise(key, 0.01)), crops)
    assert f"worst node: {key.rpartition('.')[0]}," in named


@pytest.mark.parametrize("spoil", [colours_swapped, normalised_otherwise])
def test_pixels_that_arrive_otherwise_are_found_and_named(
    spoil: Spoil, model: Model, graph: onnx.ModelProto, crops: Crops
) -> None:
    wrong = spoilt(graph, spoil)
    assert hold(yardstick(model, crops, ""), wrong, "fp32").failures
    assert "colour order, range or normalisation" in blame(model, wrong, crops, is_rescaled=False)


def test_the_worst_input_is_named(rng: np.random.Generator) -> None:
    reference = rng.normal(size=(30, 8)).astype(np.float32)
    given = reference.copy()
    given[17] += 3
    held = judge(reference, given, "int8", WORDS)
    assert any("worst input: crop 17 of 30" in failure for failure in held.failures)


@pytest.mark.parametrize("precision", LIMITS)
def test_each_limit_is_one(precision: Precision, rng: np.random.Generator) -> None:
    reference = rng.normal(size=(40, 8)).astype(np.float32)
    limits = LIMITS[precision]
    assert judge(reference, reference, precision, WORDS).failures == ()
    one = reference.copy()
    one[3, 0] += 1.05 * limits.largest * reference.std(axis=0).max() * 1.2
    assert any("largest difference" in failure for failure in judge(reference, one, precision, WORDS).failures)
    all_of_them = (reference + 1.3 * limits.mean * np.sign(rng.normal(size=reference.shape))).astype(np.float32)
    assert any("mean difference" in failure for failure in judge(reference, all_of_them, precision, WORDS).failures)


def test_another_number_of_values_or_no_numbers_fail(rng: np.random.Generator) -> None:
    reference = rng.normal(size=(30, 8)).astype(np.float32)
    assert "[30, 7] values, the reference [30, 8]" in judge(reference, reference[:, :7], "int8", WORDS).failures[0]
    broken = reference.copy()
    broken[4, 2] = np.nan
    assert "crop 4 gives numbers that are not finite" in judge(reference, broken, "int8", WORDS).failures[0]


def test_an_embedding_with_a_large_common_part_hides_nothing(rng: np.random.Generator) -> None:
    """Cosines of vectors that all point one way are near 1 whatever happens; spreads are not."""
    reference = (100 + rng.normal(size=(40, 8))).astype(np.float32)
    given = (100 + rng.normal(size=(40, 8))).astype(np.float32)
    assert any("spreads" in failure for failure in judge(reference, given, "int8", WORDS).failures)


def batch_of(size: int, mixes: bool) -> bytes:
    """A graph over [size, 16, 16, 3] whose embedding is the mean colour, of each crop or over all crops."""
    graph = Graph()
    x = graph.node("float", "Cast", ["crops"], {"to": TensorProto.FLOAT})
    x = graph.node("mean", "ReduceMean", [x, graph.integers("axes", [1, 2])], {"keepdims": 0})
    other = graph.node("other", "ReduceMean", [x, graph.integers("first", [0])], {"keepdims": 1})
    graph.node("embedding", "Add", [x, other if mixes else x])
    made = graph.model("mean-colour", 16, "embedding", 3)
    if size:
        made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    return made.SerializeToString()


def test_batches_that_mix_faces_or_do_not_exist_are_found(rng: np.random.Generator) -> None:
    crops = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    assert check_batches(batch_of(0, mixes=False), crops) == ()
    assert "three crops at once" in check_batches(batch_of(0, mixes=True), crops)[0]
    with pytest.raises(BundleError, match="fails on 3 crops at once"):
        check_batches(batch_of(1, mixes=False), crops)


def test_a_refusal_is_one_line_and_says_that_nothing_was_written(rng: np.random.Generator) -> None:
    reference = rng.normal(size=(30, 8)).astype(np.float32)
    error = refuse("mine", "int8", judge(reference, -reference, "int8", WORDS), "worst node: conv1")
    assert "\n" not in str(error)
    assert str(error).startswith("mine, int8: it does not compute what its weights do, nothing was written: largest")
    assert "; worst node: conv1; --precision auto takes the fastest that passes" in str(error)
