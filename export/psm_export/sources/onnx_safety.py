"""Somebody's ONNX file, read with all its weights, and refused where it would need anything but itself."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper, inliner, version_converter

from psm_export.graph import OPSET
from psm_export.graphs.graph_editing import graphs_of, one_line
from psm_stream.errors import BundleError

LARGEST = 2_000_000_000
"""Bytes; a protobuf message, which a bundle's graph is, holds less than 2 GiB."""
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]*")
_ADVICE = "export it again with all weights inside (onnx.save_model without save_as_external_data)"
_OWN_DOMAINS = ("", "ai.onnx")


def load_model(path: Path) -> onnx.ModelProto:
    """Read a model, with weights that lie in other files of the same folder taken in.

    Raises BundleError: it is no ONNX file, points to files elsewhere, or needs operators that are not ONNX's own.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= LARGEST else b""
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from None
    if size > LARGEST:
        raise BundleError(f"{path} has {size / 1e9:.1f} GB; a bundle's model has less than 2 GB")
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's, whose classes differ from version to version
        raise BundleError(f"{path} is not an ONNX file, or it is cut off; copy or export it again") from None
    if not model.HasField("graph") or not model.graph.node:
        raise BundleError(f"{path} is not an ONNX file with a graph in it; export it again")
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_operators(path, model)
    _take_in(path, model)
    return model


def of_our_opset(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a model to the operators' version that bundles have. Raises BundleError: ONNX's converter cannot."""
    versions = [entry.version for entry in model.opset_import if entry.domain in _OWN_DOMAINS]
    if versions == [OPSET]:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter's errors, of several kinds
        raise BundleError(
            f"{path}: operator set {versions} cannot be brought to {OPSET} ({one_line(error)}); export it with "
            f"opset_version={OPSET}"
        ) from error


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    for graph in graphs_of(model.graph):
        for node in graph.node:
            if node.op_type == "EPContext":
                raise BundleError(
                    f"{path} holds a compiled engine (EPContext), which runs on one kind of machine; give the model "
                    "that it was compiled from"
                )
            if node.domain not in _OWN_DOMAINS:
                raise BundleError(
                    f"{path} needs the operator {node.domain}.{node.op_type}, which is not one of ONNX's own; export "
                    "it with standard operators, before any optimising"
                )


def _take_in(path: Path, model: onnx.ModelProto) -> None:
    """Load weights of other files. Raises BundleError: a file is not a plain name in the same folder."""
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        if len(places) != 1 or not _PLAIN.fullmatch(places[0]):
            raise BundleError(
                f"{path} is an ONNX file with external data pointing elsewhere ({(places or ['nowhere'])[0][:80]!r}); "
                f"{_ADVICE}"
            )
        file = path.parent / places[0]
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{path} keeps weights in {places[0]!r}, which does not lie beside it; {_ADVICE}")
        if file.stat().st_size > LARGEST:
            raise BundleError(f"{file} has more than 2 GB of weights; a bundle's model has less")
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        except Exception as error:  # a length or offset that the file does not have, and onnx's own checks
            raise BundleError(f"{path}: weights in {places[0]!r} cannot be read ({one_line(error)})") from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    found: list[onnx.TensorProto] = []
    for graph in graphs_of(model.graph):
        found += graph.initializer
        found += [part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices)]
        for node in graph.node:
            for attribute in node.attribute:
                found += attribute.tensors
                found += [attribute.t] if attribute.HasField("t") else []
    return found
