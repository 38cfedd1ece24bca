"""check.npz: what a bundle carries to be checked by."""

import io

import numpy as np
import onnx
import pytest

from psm_export.model import Model
from psm_export.parity.check import check_crops, make_check, sampled, to_bytes
from psm_export.parity.tracing import layer_names, layer_values
from psm_export.sources.drawn import drawn


@pytest.fixture(scope="module")
def model() -> Model:
    return drawn("facecycle-expression-encoder", 2)


@pytest.fixture(scope="module")
def graph(model: Model) -> onnx.ModelProto:
    return model.build()


def test_the_check_is_the_references_and_the_same_bytes_again(model: Model, graph: onnx.ModelProto) -> None:
    check = make_check(model, graph)
    np.testing.assert_array_equal(check.embeddings, model.reference.encode(check.crops))
    content = to_bytes(check)
    assert to_bytes(make_check(model, graph)) == content
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        assert stored["crops"].shape == (16, 64, 64, 3)
        assert stored["samples"].shape == (len(check.layers), 16, 16)
    assert len({crop.tobytes() for crop in check.crops}) == 16


@pytest.mark.parametrize("size_px", [16, 100])
def test_crops_are_of_any_size(size_px: int) -> None:
    assert check_crops(size_px).shape == (16, size_px, size_px, 3)


def test_samples_are_values_of_the_layers(graph: onnx.ModelProto) -> None:
    crops = check_crops(64)[:2]
    names = layer_names(graph)
    assert names[0] == "conv1.0"
    assert names[-1] == "expresscode.2"
    values = layer_values(graph, ["conv1.0", "nothing"], crops)
    assert list(values) == ["conv1.0"]
    samples = sampled(graph, ["conv1.0", "nothing"], crops)
    assert np.isin(samples[0], values["conv1.0"]).all()
    assert len(np.unique(samples[0])) > 20
    assert np.isnan(samples[1]).all()


def test_watching_changes_no_embedding(graph: onnx.ModelProto) -> None:
    import onnxruntime

    crops = check_crops(64)[:3]
    (plain,) = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"crops": crops})
    np.testing.assert_allclose(layer_values(graph, ["embedding"], crops)["embedding"], plain, rtol=0, atol=1e-5)
