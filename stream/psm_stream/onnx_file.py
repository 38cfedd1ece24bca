"""What an ONNX file asks for beyond itself, read without the onnx package.

A bundle must be self-contained: no weights in other files, which ONNX Runtime would look for beside the model or in the
working directory, no operators from a library that would have to be loaded, and none that bring code with them. ONNX's
own operators compute and do nothing else. Of those that ONNX Runtime adds (com.microsoft), EPContext loads an engine of
native code from inside the model or from a path, PythonOp and TritonOp call into Python, and Snpe holds a program; more
may come with any version. So of these only `CONTRIBUTED` pass, which are known to compute alone.

This walks the protobuf wire format of onnx.proto and looks at those fields alone; everything else is skipped by its
length.
"""

from __future__ import annotations

from collections.abc import Iterator

from psm_stream.errors import BundleError
from psm_stream.redact import printable

BUILT_IN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Operator domains of ONNX itself, all of which ONNX Runtime carries."""
CONTRIBUTED_DOMAIN = "com.microsoft"
CONTRIBUTED = frozenset(
    {
        # what quantisers and optimisers of encoders write: integers
        "QuantizeLinear", "DequantizeLinear", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat",
        "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean",
        "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QAttention", "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat", "MatMulInteger16", "MatMulNBits", "NhwcMaxPool",
        # and what they melt into one
        "Attention", "MultiHeadAttention", "BiasAdd", "BiasGelu", "BiasSoftmax", "BiasSplitGelu", "FastGelu",
        "FusedConv", "FusedGemm", "FusedMatMul", "FusedMatMulActivation", "Gelu", "GroupNorm", "Inverse",
        "LayerNormalization", "NhwcConv", "NhwcFusedConv", "Pad", "QuickGelu", "SkipGroupNorm",
        "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "TransposeMatMul",
    }
)  # fmt: skip
"""Operators that ONNX Runtime adds and that compute alone."""

# message -> {field number: message inside it}, from onnx.proto (ONNX 1.17)
_INSIDE: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}
_NODE_DOMAIN, _NODE_OPERATOR = 7, 4
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14
_ORT_FORMAT = b"ORTM"
"""Mark at byte 4 by which ONNX Runtime knows its own format, whatever the rest looks like."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_self_contained(model: bytes) -> None:
    """Refuse a model that needs anything but itself. model: an ONNX file's content.

    Raises BundleError: external data, an operator that is not built in or may bring code, or not an ONNX file at all.
    """
    if bytes(model[4:8]) == _ORT_FORMAT:
        raise BundleError("encoder.onnx is in ONNX Runtime's own format; export it as ONNX, which can be checked")
    try:
        _check("Model", memoryview(model))
    except (IndexError, UnicodeDecodeError, RecursionError):
        raise BundleError("encoder.onnx is not an ONNX file, or it is cut off") from None


def _check(message: str, content: memoryview) -> None:
    inside = _INSIDE.get(message, {})
    operator = domain = ""
    for field, value in _fields(content):
        if isinstance(value, int):
            if message == "Tensor" and field == _TENSOR_LOCATION and value != 0:
                raise BundleError("encoder.onnx keeps weights in another file; export it with all data inside")
        elif field in inside:
            _check(inside[field], value)
        elif message == "Tensor" and field == _TENSOR_EXTERNAL_DATA:
            raise BundleError("encoder.onnx keeps weights in another file; export it with all data inside")
        elif message == "Node" and field == _NODE_DOMAIN:
            domain = bytes(value).decode()
        elif message == "Node" and field == _NODE_OPERATOR:
            operator = bytes(value).decode()
    if domain == CONTRIBUTED_DOMAIN:
        if operator not in CONTRIBUTED:
            raise BundleError(
                f"encoder.onnx has the operator {domain}.{_shown(operator)}, which may load or run code; export it "
                "with standard operators only"
            )
    elif domain not in BUILT_IN_DOMAINS:
        raise BundleError(
            f"encoder.onnx needs the custom operator {_shown(domain)}.{_shown(operator)}; export it with standard "
            "operators only"
        )


def _shown(name: str) -> str:
    """A name that a stranger chose, for a message of one line."""
    return printable(name)[:80]


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value): an int for a varint, the bytes for anything with a length; others are skipped.

    Raises IndexError: the content ends in the middle of a field or has a wire type that protobuf does not know.
    """
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield tag >> 3, value
        elif kind == _BYTES:
            length, at = _varint(content, at)
            if at + length > len(content):
                raise IndexError
            yield tag >> 3, content[at : at + length]
            at += length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise IndexError


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Read a base-128 number. Returns (number, where the next field begins)."""
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise IndexError
