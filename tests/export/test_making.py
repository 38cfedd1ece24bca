"""From a model to a candidate: what passes, what is tried next, and that nothing is taken which does not pass."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from psm_export import making
from psm_export.crops import photograph
from psm_export.making import ORDER, convert, fastest, float_graph
from psm_export.parity.gate import Yardstick, yardstick
from psm_export.precisions import Converted
from psm_export.sources.drawn import drawn
from psm_stream.errors import ParityFailed


@pytest.fixture(scope="module")
def to() -> Yardstick:
    crops = np.concatenate([photograph(), photograph(mirrored=True)])
    return yardstick(drawn("facecycle-expression-encoder", 4), crops, "24 crops of a photograph")


@pytest.fixture(scope="module")
def graph(to: Yardstick) -> onnx.ModelProto:
    return float_graph(to)


def quietly(done: int, of: int, what: str) -> None:
    del done, of, what


def disturbed(graph: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    (tensor,) = [one for one in copy.graph.initializer if one.name == "expresscode.2.weight"]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return copy


def test_a_conversion_that_passes_says_what_stayed_in_float(
    to: Yardstick, graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "CONVERTERS", {"int8": lambda *_: iter([Converted(graph, ("conv1.0",))])})
    candidate = convert(to, graph, "int8", to.crops, quietly)
    assert candidate.parity.float_nodes == ("conv1.0",)
    assert candidate.parity.over == "24 crops of a photograph"
    assert candidate.check


def test_what_does_not_pass_is_followed_by_the_next(
    to: Yardstick, graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = [Converted(disturbed(graph, 1.5)), Converted(graph, ("conv1.0",)), Converted(graph)]
    monkeypatch.setattr(making, "CONVERTERS", {"int8": lambda *_: iter(forms)})
    assert convert(to, graph, "int8", to.crops, quietly).parity.float_nodes == ("conv1.0",)


def test_the_fastest_is_taken_of_those_that_pass_alone(
    to: Yardstick, graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong one would be the fastest."""
    table = {"fp32": lambda *_: iter([Converted(graph)]), "fp16": lambda *_: iter([Converted(graph)])}
    monkeypatch.setattr(making, "CONVERTERS", {**table, "int8": lambda *_: iter([Converted(disturbed(graph, 1.5))])})
    monkeypatch.setattr(making, "median_ms", lambda graphs, _: [5.0, 3.0, 1.0][: len(graphs)])
    best, tried = fastest(to, graph, to.crops, quietly)
    assert best.precision == "fp16"
    assert [(one.precision, one.ms) for one in tried] == [("fp32", 5.0), ("fp16", 3.0), ("int8", None)]
    assert tried[2].why_not.startswith("does not pass: largest difference")
    assert "expresscode.2" in tried[2].why_not


def test_where_none_passes_there_is_nothing(
    to: Yardstick, graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = disturbed(graph, 2.0)
    monkeypatch.setattr(making, "CONVERTERS", dict.fromkeys(ORDER, lambda *_: iter([Converted(wrong)])))
    with pytest.raises(ParityFailed, match="no precision passes, nothing was written: fp32 does not pass"):
        fastest(to, graph, to.crops, quietly)


def test_a_float_graph_that_is_wrong_goes_no_further(to: Yardstick, graph: onnx.ModelProto) -> None:
    wrong = replace(to, model=replace(to.model, build=lambda: disturbed(graph, 1.01)))
    with pytest.raises(ParityFailed, match=r"worst node: expresscode\.2"):
        float_graph(wrong)
