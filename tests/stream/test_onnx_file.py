"""A model that needs more than itself is refused before any runtime sees it."""

import contextlib
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from psm_stream.bundle import general_bundle
from psm_stream.errors import BundleError
from psm_stream.onnx_file import check_self_contained

GENERAL = (general_bundle() / "encoder.onnx").read_bytes()


def external() -> TensorProto:
    """A tensor whose numbers are in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../weights.bin")
    return tensor


def model(*nodes: onnx.NodeProto, tensors: tuple[TensorProto, ...] = ()) -> bytes:
    content: bytes = helper.make_model(helper.make_graph(list(nodes), "g", [], [], list(tensors))).SerializeToString()
    return content


def inside_if(node: onnx.NodeProto) -> onnx.NodeProto:
    branch = helper.make_graph([node], "branch", [], [])
    return helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)


def test_ordinary_models_pass() -> None:
    check_self_contained(GENERAL)
    weights = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    check_self_contained(model(helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft"), tensors=(weights,)))


@pytest.mark.parametrize(
    "content",
    [
        model(tensors=(external(),)),
        model(helper.make_node("Constant", [], ["y"], value=external())),
        model(inside_if(helper.make_node("Constant", [], ["y"], value=external()))),
    ],
    ids=["initialiser", "constant", "in a branch"],
)
def test_weights_in_another_file_are_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="weights in another file"):
        check_self_contained(content)


@pytest.mark.parametrize("wrap", [lambda node: node, inside_if], ids=["top", "in a branch"])
def test_custom_operators_are_refused(wrap: Callable[[onnx.NodeProto], onnx.NodeProto]) -> None:
    node = helper.make_node("Backdoor", ["x"], ["y"], domain="com.acme")
    with pytest.raises(BundleError, match=r"custom operator com\.acme\.Backdoor"):
        check_self_contained(model(wrap(node)))


@pytest.mark.parametrize("wrap", [lambda node: node, inside_if], ids=["top", "in a branch"])
@pytest.mark.parametrize("operator", ["EPContext", "PythonOp", "TritonOp", "Snpe", "NotYetInvented", "Ev\nil"])
def test_operators_that_may_bring_code_are_refused(
    operator: str, wrap: Callable[[onnx.NodeProto], onnx.NodeProto]
) -> None:
    node = helper.make_node(operator, ["x"], ["y"], domain="com.microsoft", ep_cache_context="../engine.plan")
    with pytest.raises(BundleError, match=r"com\.microsoft\.\w+.*, which may load or run code") as caught:
        check_self_contained(model(wrap(node)))
    assert "\n" not in str(caught.value)


def test_an_operator_in_a_function_that_may_bring_code_is_refused() -> None:
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")
    function = helper.make_function("ai.onnx", "F", ["x"], ["y"], [node], [helper.make_opsetid("com.microsoft", 1)])
    proto = helper.make_model(helper.make_graph([], "g", [], []), functions=[function])
    with pytest.raises(BundleError, match="EPContext"):
        check_self_contained(proto.SerializeToString())


def test_onnx_runtimes_own_format_is_refused_though_it_reads_as_protobuf() -> None:
    """Bytes that are both: ONNX Runtime looks at byte 4 alone, and would take them for a model that nobody checked."""
    both = (
        b"\x3a" + bytes([len(GENERAL) & 0]) + b"\x2a\x04ORTM" + GENERAL
    )  # an empty graph, then a text of four letters
    assert both[4:8] == b"ORTM"
    with pytest.raises(BundleError, match="ONNX Runtime's own format"):
        check_self_contained(both)
    check_self_contained(both.replace(b"ORTM", b"MTRO", 1))


def test_a_custom_operator_in_a_function_is_refused() -> None:
    node = helper.make_node("Backdoor", ["x"], ["y"], domain="com.acme")
    function = helper.make_function("ai.onnx", "F", ["x"], ["y"], [node], [helper.make_opsetid("com.acme", 1)])
    proto = helper.make_model(helper.make_graph([], "g", [], []), functions=[function])
    with pytest.raises(BundleError, match="custom operator"):
        check_self_contained(proto.SerializeToString())


@pytest.mark.parametrize(
    "content", [b"\xff" * 40, b"ORTM not protobuf", b"PK\x03\x04 a zip file", GENERAL[:-1], GENERAL[:7]]
)
def test_what_is_no_onnx_file_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="not an ONNX file"):
        check_self_contained(content)


def test_endless_nesting_is_refused() -> None:
    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))  # a graph with a node with an attribute with a graph
    with pytest.raises(BundleError, match="not an ONNX file"):
        check_self_contained(field(7, graph))


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_never_does_worse_than_a_refusal(content: bytes) -> None:
    with contextlib.suppress(BundleError):
        check_self_contained(content)


@settings(deadline=None)
@given(st.integers(0, 20_000), st.integers(1, 255))
def test_damage_never_does_worse_than_a_refusal(at: int, change: int) -> None:
    damaged = bytearray(GENERAL[-20_001:])
    damaged[at] ^= change
    with contextlib.suppress(BundleError):
        check_self_contained(bytes(damaged))
