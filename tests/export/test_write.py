"""Writing bundles: the model's id, parity figures, and never overwriting."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from psm_export.graph import Graph
from psm_export.write import Description, model_id, write_bundle
from psm_stream.bundle import Parity, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import BundleError

EXACT = Parity(reference="itself", crops=1, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=1e-4)
ABOUT = Description(
    name="mean-colour",
    note="a test",
    architecture="mean",
    normalisation="none",
    precision="fp32",
    trained=True,
    licence="MIT",
    created_by="a test",
    training={"epochs": 3},
    parent="0123456789ab",
    person="ada",
)


def mean_colour(factor: float = 1.0) -> onnx.ModelProto:
    """crops [N, 16, 16, 3] -> mean colour times a factor [N, 3]."""
    graph = Graph()
    x = graph.node("float", "Cast", ["crops"], {"to": TensorProto.FLOAT})
    x = graph.node("mean", "ReduceMean", [x, graph.integers("axes", [1, 2])], {"keepdims": 0})
    graph.node("embedding", "Mul", [x, graph.constant("factor", np.array([factor], np.float32))])
    return graph.model("mean-colour", 16, "embedding", 3)


def test_a_written_bundle_opens_and_runs(tmp_path: Path) -> None:
    written = write_bundle(tmp_path / "new" / "bundle", mean_colour(), ABOUT, EXACT)
    bundle = open_bundle(tmp_path / "new" / "bundle")
    assert bundle.manifest == written
    assert (written.input.size_px, written.output.dimension) == (16, 3)
    assert (written.parent, written.person, written.training) == ("0123456789ab", "ada", {"epochs": 3})
    encoder = open_encoder(bundle, "cpu")
    crop = np.full((16, 16, 3), (10, 20, 30), np.uint8)
    np.testing.assert_allclose(encoder.encode(crop), [10, 20, 30], rtol=1e-6)


def test_a_bundle_is_never_overwritten(tmp_path: Path) -> None:
    write_bundle(tmp_path, mean_colour(), ABOUT, EXACT)
    before = (tmp_path / "encoder.onnx").read_bytes()
    with pytest.raises(BundleError, match="never overwritten"):
        write_bundle(tmp_path, mean_colour(2.0), ABOUT, EXACT)
    assert (tmp_path / "encoder.onnx").read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BundleError, match="cannot write the bundle") as caught:
        write_bundle(tmp_path / "file" / "bundle", mean_colour(), ABOUT, EXACT)
    assert "\n" not in str(caught.value)


def test_the_id_is_the_digest_of_the_numbers_in_order_of_name() -> None:
    first, second = np.array([1, 2], np.int64), np.array([[3.5]], np.float32)
    tensors = [numpy_helper.from_array(second, "b"), numpy_helper.from_array(first, "a")]
    model = helper.make_model(helper.make_graph([], "empty", [], [], tensors))
    by_hand = bytes.fromhex("0100000000000000020000000000000000006040")
    assert model_id(model) == hashlib.sha256(by_hand).hexdigest()[:12]


def test_the_id_follows_the_weights_alone() -> None:
    one = mean_colour()
    renamed = onnx.ModelProto.FromString(one.SerializeToString())
    renamed.doc_string = renamed.graph.name = "something else"
    assert model_id(renamed) == model_id(one)
    assert model_id(mean_colour(1.001)) != model_id(one)
