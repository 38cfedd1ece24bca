"""Somebody's own ONNX file: the graph made of it computes what the file does, and others are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.export.own_models import crops, network, obvious, write, write_manifest

from psm_export.model import Model
from psm_export.parity.tracing import layer_names, layer_values
from psm_export.sources.user import read_onnx
from psm_stream.errors import BundleError, ConfigError
from psm_stream.onnx_file import check_self_contained


def run(model: Model, faces: np.ndarray) -> np.ndarray:
    content = model.build().SerializeToString()
    check_self_contained(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["embedding"], {"crops": faces})[0]


def as_asked(faces: np.ndarray, span: str = "0..1", colour: str = "RGB") -> np.ndarray:
    ordered = (faces if colour == "RGB" else faces[..., ::-1]).transpose(0, 3, 1, 2).astype(float)
    return {"0..1": ordered / 255, "-1..1": ordered / 127.5 - 1, "0..255": ordered}[span]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("span", ["0..1", "-1..1"])
def test_the_graph_computes_what_the_file_does(tmp_path: Path, span: str, colour: str, layout: str) -> None:
    path = write(tmp_path, network(layout=layout), input__range=span, input__colour=colour, input__layout=layout)
    model = read_onnx(path)
    wanted = obvious(as_asked(crops(), span, colour))
    np.testing.assert_allclose(model.reference.encode(crops()), wanted, rtol=0, atol=2e-6)
    np.testing.assert_allclose(run(model, crops()), wanted, rtol=0, atol=2e-6)
    assert model.dimension == 5
    assert model.reference.eager() is None


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_other_operator_sets_are_brought_to_ours(tmp_path: Path, opset: int) -> None:
    model = read_onnx(write(tmp_path, network(opset=opset)))
    assert [entry.version for entry in model.build().opset_import] == [20]
    np.testing.assert_allclose(run(model, crops()), obvious(as_asked(crops())), rtol=0, atol=2e-6)


@pytest.mark.parametrize("has_flat_output", [True, False])
def test_a_file_for_one_picture_is_made_to_take_any_number(tmp_path: Path, has_flat_output: bool) -> None:
    model = read_onnx(write(tmp_path, network(batch=1, has_flat_output=has_flat_output)))
    wanted = obvious(as_asked(crops()))
    np.testing.assert_allclose(model.reference.encode(crops()), wanted, rtol=0, atol=2e-6)
    np.testing.assert_allclose(run(model, crops()), wanted, rtol=0, atol=2e-6)


def test_zeros_that_are_zeros_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """PyTorch's newer exporter says of each Reshape that 0 means 0."""
    model = network(batch=1)
    reshape = next(node for node in model.graph.node if node.op_type == "Reshape")
    reshape.attribute.append(helper.make_attribute("allowzero", 1))
    np.testing.assert_allclose(run(read_onnx(write(tmp_path, model)), crops()), obvious(as_asked(crops())), atol=2e-6)


def test_a_file_that_cannot_take_several_is_refused(tmp_path: Path) -> None:
    model = network(batch=1)
    model.graph.node[-1].input[0] = "more"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 5), np.float32), "row"))
    last = model.graph.node.pop()
    model.graph.node.extend([helper.make_node("Concat", ["linear", "row"], ["both"], axis=1)])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((10, 5), np.float32), "folding"))
    model.graph.node.extend([helper.make_node("MatMul", ["both", "folding"], ["more"]), last])
    with pytest.raises(BundleError, match=r"takes one picture at a time.*; export it with a free batch"):
        read_onnx(write(tmp_path, model)).build()


def test_a_file_that_mixes_pictures_is_refused(tmp_path: Path) -> None:
    """Made to take several, it would give each face numbers that depend on the others."""
    model = network(batch=1)
    model.graph.node[-1].input[0] = "minus"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    mixing = [
        helper.make_node("ReduceMean", ["linear"], ["mixed"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["linear", "mixed"], ["minus"]),
    ]
    last = model.graph.node.pop()
    model.graph.node.extend([*mixing, last])
    with pytest.raises(BundleError, match=r"made to take any number it gives other numbers .* dynamic_shapes"):
        read_onnx(write(tmp_path, model)).build()


def test_bytes_go_in_without_needless_parts(tmp_path: Path) -> None:
    model = network(layout="NHWC", ends=("crops", "embedding"))
    cast = helper.make_node("Cast", ["crops"], ["float"], to=TensorProto.FLOAT)
    model.graph.node[0].input[0] = "float"
    nodes = [cast, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    keys = {"input__dtype": "uint8", "input__layout": "NHWC", "input__range": "0..255"}
    own = read_onnx(write(tmp_path, model, **keys))
    made = own.build()
    assert [node.op_type for node in made.graph.node][:3] == ["Cast", "Transpose", "Conv"]
    assert len(made.graph.node) == len(model.graph.node) - 1  # without the Constant
    np.testing.assert_allclose(run(own, crops()), obvious(as_asked(crops(), "0..255")), rtol=0, atol=2e-5)


def test_names_that_are_ours_do_not_collide(tmp_path: Path) -> None:
    model = network(ends=("embedding", "crops"))
    np.testing.assert_allclose(run(read_onnx(write(tmp_path, model)), crops()), obvious(as_asked(crops())), atol=2e-6)


def test_layers_are_traced(tmp_path: Path) -> None:
    model = read_onnx(write(tmp_path, network(batch=1)))
    graph = model.build()
    traced = model.reference.trace(crops())
    assert layer_names(graph) == ["conv", "linear"]
    for name, values in layer_values(graph, ["conv", "linear"], crops()).items():
        np.testing.assert_allclose(values, traced[name], rtol=1e-5, atol=1e-5)


def test_what_the_manifest_says_goes_along(tmp_path: Path) -> None:
    np.savez(tmp_path / "check.npz", crops=crops(), embeddings=obvious(as_asked(crops())))
    said: dict[str, Any] = {"name": "mine", "licence": "CC-BY-4.0", "training_data": ["my students"], "trained": False}
    model = read_onnx(write(tmp_path, check="check.npz", **said))
    assert (model.about.name, model.about.licence, model.about.trained) == ("mine", "CC-BY-4.0", False)
    assert model.about.training_data == ("my students",)
    assert model.about.made_from["name"] == "own.onnx"
    assert (model.alignment.eye_distance, model.alignment.crop_px) == (0.4, 16)
    assert model.expected is not None
    np.testing.assert_allclose(model.expected[1], model.reference.encode(model.expected[0]), atol=2e-6)


def external(model: onnx.ModelProto, location: str) -> onnx.ModelProto:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.weight")
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return model


def test_weights_beside_the_file_are_taken_in(tmp_path: Path) -> None:
    content = next(tensor.raw_data for tensor in network().graph.initializer if tensor.name == "fc.weight")
    (tmp_path / "weights.bin").write_bytes(content)
    (tmp_path / "own.onnx").write_bytes(external(network(), "weights.bin").SerializeToString())
    path = tmp_path / "own.onnx"
    write_manifest(tmp_path)
    np.testing.assert_allclose(run(read_onnx(path), crops()), obvious(as_asked(crops())), rtol=0, atol=2e-6)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/weights.bin", "..", "a\\b", ""])
def test_weights_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "own.onnx").write_bytes(external(network(), location).SerializeToString())
    write_manifest(tmp_path)
    with pytest.raises(BundleError, match="an ONNX file with external data pointing elsewhere"):
        read_onnx(tmp_path / "own.onnx")


def test_weights_behind_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(80))
    (tmp_path / "weights.bin").symlink_to(tmp_path / "secret")
    (tmp_path / "own.onnx").write_bytes(external(network(), "weights.bin").SerializeToString())
    write_manifest(tmp_path)
    with pytest.raises(BundleError, match="does not lie beside it"):
        read_onnx(tmp_path / "own.onnx")


def with_node(operator: str, domain: str) -> onnx.ModelProto:
    model = network()
    model.graph.node[1].op_type, model.graph.node[1].domain = operator, domain
    return model


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        (with_node("Relu", "my.ops"), {}, r"needs the operator my\.ops\.Relu, which is not one of ONNX's own"),
        (with_node("EPContext", "com.microsoft"), {}, "holds a compiled engine"),
        (network(), {"input__size_px": 32}, r"is \['free', 3, 16, 16\], its manifest says \[N, 3, 32, 32\]"),
        (network(), {"input__layout": "NHWC"}, r"its manifest says \[N, 16, 16, 3\] \(NHWC\); correct"),
        (network(), {"input__dtype": "uint8", "input__range": "0..255"}, "is float, its manifest says uint8"),
        (network(), {"output__dimension": 6}, "gives 5 numbers for a face, its manifest says 6"),
        (network(), {"output__name": "codes"}, "has no output 'codes'; set output.name in its manifest to one of code"),
        (network(batch=4), {}, "takes 4 pictures at a time; export it with a free batch"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, model: onnx.ModelProto, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BundleError, match=reason) as caught:
        read_onnx(write(tmp_path, model, **changes))
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_run_is_refused(tmp_path: Path) -> None:
    model = network()
    model.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_value")
    broken = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.weight")
    broken.CopyFrom(numpy_helper.from_array(np.zeros((5, 7), np.float32), "fc.weight"))
    with pytest.raises(BundleError, match="does not run in ONNX Runtime"):
        read_onnx(write(tmp_path, model))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BundleError, match="is not an ONNX file"):
        read_onnx(path)
    path.write_bytes(b"")
    with pytest.raises(BundleError, match="is not an ONNX file with a graph"):
        read_onnx(path)
    (tmp_path / "own.json").unlink()
    with pytest.raises(ConfigError, match="no manifest lies beside it"):
        read_onnx(path)
