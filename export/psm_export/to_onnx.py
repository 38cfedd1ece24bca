"""A network in PyTorch as the graph that bundles hold: `crops` uint8 [N, S, S, 3] to `embedding` float32 [N, D].

PyTorch's own exporter writes the layers and folds batch normalisation into them; here pixels are put before, names are
made those of the network's parts, and everything that differs from machine to machine (stack traces, versions) is taken
out, so that the same weights give the same bytes with the same PyTorch.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.export import Dim, ExportedProgram

from psm_export.graph import OPSET, close
from psm_export.model import Pixels
from psm_export.pixel_part import CROPS, Layout, PixelPart, PixelType
from psm_stream.errors import BundleError

EMBEDDING = "embedding"
_LAYERS = ("Conv", "Gemm", "MatMul")
_MOST = 4096
"""Crops at a time that the exported program is said to take; the ONNX graph takes any number."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A graph, and the program that it was written from.

    program: after PyTorch's decompositions. names: of its values that the graph has, too, name there -> name in graph.
    """

    graph: onnx.ModelProto
    program: ExportedProgram
    names: dict[str, str]


def program_of(network: torch.nn.Module, pixels: Pixels) -> ExportedProgram:
    """Record what a network computes for images [N, 3, S, S], N free. The network must be in evaluation mode."""
    example = torch.zeros(2, 3, pixels.size_px, pixels.size_px)
    with quiet():
        return torch.export.export(network, (example,), dynamic_shapes=({0: Dim("N", min=1, max=_MOST)},))


def to_onnx(
    program: ExportedProgram,
    pixels: Pixels,
    name: str,
    layout: Layout = "NCHW",
    dtype: PixelType = "float32",
) -> Exported:
    """Write a program of one tensor in and one out as a graph. name: of the graph, for people.

    Raises BundleError: PyTorch cannot write it, or it needs operators of its own.
    """
    try:
        with quiet():
            written = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
            assert written is not None
            assert written.exported_program is not None
            model, decomposed = written.model_proto, written.exported_program
    except Exception as error:  # whatever an operator without translation raises
        first = next(iter(str(error).splitlines()), "")[:200]
        raise BundleError(
            f"{name}: PyTorch cannot write this network as ONNX ({first or type(error).__name__}); export it from "
            "Python with torch.onnx.export and give the .onnx file"
        ) from error
    names = _readable(model)
    names = {theirs: EMBEDDING if ours == model.graph.output[0].name else ours for theirs, ours in names.items()}
    part = PixelPart(pixels, layout, dtype)
    return Exported(joined(model, part, pixels.size_px, name), decomposed, names)


def joined(model: onnx.ModelProto, part: PixelPart, size_px: int, name: str) -> onnx.ModelProto:
    """Put pixels before a graph of one input and one output [N, D], and leave out what is not computed.

    Raises BundleError: D is not a number, or an operator domain is not ONNX's.
    """
    graph = model.graph
    foreign = {node.domain for node in graph.node} - {"", "ai.onnx"}
    if foreign or model.functions:
        raise BundleError(f"{name} needs operators of {', '.join(sorted(foreign)) or 'functions'}, not of ONNX alone")
    _rename(graph, {graph.input[0].name: part.output, graph.output[0].name: EMBEDDING})
    dimension = graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    nodes = [*part.nodes, *graph.node]
    used = {used for node in nodes for used in node.input}
    constants = [_plain(tensor) for tensor in graph.initializer if tensor.name in used]
    crops = helper.make_tensor_value_info(CROPS, TensorProto.UINT8, ["N", size_px, size_px, 3])
    embedding = helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["N", dimension])
    return close(helper.make_graph(nodes, name, [crops], [embedding], [*part.constants, *constants]))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """PyTorch says much about itself while it exports, by warnings and by log; errors are raised all the same."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _readable(model: onnx.ModelProto) -> dict[str, str]:
    """Name nodes, and what they give, after the part of the network that they belong to. Returns the changed names."""
    names: dict[str, str] = {}
    weights = {tensor.name for tensor in model.graph.initializer}
    taken = set(weights)
    for node in model.graph.node:
        scope = _scope(node, weights)
        wanted = scope if node.op_type in _LAYERS else f"{scope}/{node.op_type}".lstrip("/")
        fresh, number = wanted, 1
        while fresh in taken or not fresh:
            number += 1
            fresh = f"{wanted}.{number}"
        taken.add(fresh)
        names[node.output[0]] = node.name = fresh
    _with_biases(model.graph)
    _rename(model.graph, names)
    return names


def _scope(node: onnx.NodeProto, weights: set[str]) -> str:
    """The part of the network that a node belongs to: of its weight, else where PyTorch says that it was recorded."""
    for name in node.input:
        if name in weights and name.endswith(".weight"):
            return str(name).removesuffix(".weight")
    said = [str(entry.value) for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
    try:
        scopes = ast.literal_eval(said[0] if said else "[]")
    except (ValueError, SyntaxError):
        return ""
    parts = [str(scope) for scope in scopes[:-1] if scope]
    return parts[-1] if parts else ""


def _with_biases(graph: onnx.GraphProto) -> None:
    """Give every convolution a bias, as the quantiser wants it; PyTorch's exporter leaves out those of zeros."""
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 2 and node.input[1] in shapes:
            name = f"{node.input[1].removesuffix('.weight')}.bias"
            zeros = np.zeros(shapes[node.input[1]][0], np.float32)
            graph.initializer.append(numpy_helper.from_array(zeros, name))
            node.input.append(name)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]
    for end in (*graph.input, *graph.output):
        end.name = names.get(end.name, end.name)


def _plain(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The same numbers and name, without words about where they came from."""
    return numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
