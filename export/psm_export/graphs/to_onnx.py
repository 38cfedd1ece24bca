"""A network in PyTorch as the graph that bundles hold: `crops` uint8 [N, S, S, 3] to `embedding` float32 [N, D].

PyTorch's own exporter writes the layers and folds batch normalisation into them; here pixels are put before, names are
made those of the network's parts, and everything that differs from machine to machine (stack traces, versions) is taken
out, so that the same weights give the same bytes with the same PyTorch.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import torch
from onnx import TensorProto
from torch.export import Dim, ExportedProgram

from psm_export.graph import OPSET
from psm_export.graphs.graph_editing import EMBEDDING, add_biases, end_in_embedding, joined, one_line, rename
from psm_export.graphs.pixel_part import Layout, PixelPart, PixelType
from psm_export.model import Pixels
from psm_stream.errors import BundleError

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
        raise BundleError(
            f"{name}: PyTorch cannot write this network as ONNX ({one_line(error)}); export it from Python with "
            "torch.onnx.export and give the .onnx file"
        ) from error
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if foreign or model.functions:
        raise BundleError(f"{name} needs operators of {', '.join(sorted(foreign)) or 'functions'}, not of ONNX alone")
    names = _readable(model)
    part = PixelPart(pixels, layout, dtype)
    (images,), (output,) = model.graph.input, model.graph.output
    shape = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
    dimension = math.prod(shape[1:])
    if len(shape) == 2:
        names = {theirs: EMBEDDING if ours == output.name else ours for theirs, ours in names.items()}
    rename(model.graph, {images.name: part.output})
    end_in_embedding(model.graph, output.name, len(shape), output.type.tensor_type.elem_type == TensorProto.FLOAT)
    return Exported(joined(model.graph, part, name, pixels.size_px, dimension), decomposed, names)


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
    add_biases(model.graph)
    rename(model.graph, names)
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
