"""Changes to ONNX graphs that others wrote: names, constants, what is left out, and pixels put before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from psm_export.graph import close
from psm_export.graphs.pixel_part import CROPS, PixelPart
from psm_stream.errors import BundleError

EMBEDDING = "embedding"
_LISTS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and every graph inside one of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from graphs_of(inner)


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors, also where an inner graph reads them."""
    for each in graphs_of(graph):
        for node in each.node:
            for ends in (node.input, node.output):
                ends[:] = [names.get(name, name) for name in ends]
        for named in (*each.initializer, *each.input, *each.output, *each.value_info):
            named.name = names.get(named.name, named.name)


def constants_as_initialisers(graph: onnx.GraphProto) -> None:
    """Keep what Constant nodes hold as initialisers, where the quantiser and model_id look for weights."""
    kept = []
    for node in graph.node:
        attribute = node.attribute[0] if node.op_type == "Constant" and node.attribute else None
        if attribute is not None and attribute.name == "value":
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(attribute.t), node.output[0]))
        elif attribute is not None and attribute.name in _LISTS:
            value = np.array(helper.get_attribute_value(attribute), _LISTS[attribute.name])
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def add_biases(graph: onnx.GraphProto) -> None:
    """Give every convolution a bias, as the quantiser wants it: zeros where there is none."""
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 2 and node.input[1] in shapes:
            name = f"{node.input[1].removesuffix('.weight')}.bias"
            name = f"{name}.zero" if name in shapes else name
            zeros = np.zeros(shapes[node.input[1]][0], np.float32)
            graph.initializer.append(numpy_helper.from_array(zeros, name))
            shapes[name] = graph.initializer[-1].dims
            node.input.append(name)


def end_in_embedding(graph: onnx.GraphProto, output: str, rank: int, is_float32: bool = True) -> None:
    """Make the graph compute `embedding`, float32 [N, D], from its own output [N, ...] of some rank and type."""
    last = output
    if not is_float32:
        graph.node.append(
            helper.make_node("Cast", [last], [f"{output}/float"], f"{output}/float", to=TensorProto.FLOAT)
        )
        last = f"{output}/float"
    if rank != 2:
        graph.node.append(helper.make_node("Flatten", [last], [f"{output}/flat"], f"{output}/flat", axis=1))
        last = f"{output}/flat"
    rename(graph, {last: EMBEDDING})


def needed_nodes(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """The nodes that a tensor is computed by, in order."""
    wanted, kept = {output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(_read(node))
    return kept[::-1]


def joined(graph: onnx.GraphProto, part: PixelPart, name: str, size_px: int, dimension: int) -> onnx.ModelProto:
    """Put pixels before a graph that reads `part.output` and computes `embedding`. name: of the graph, for people.

    size_px: side of the crops. dimension: D. Raises BundleError: the graph is not one that ONNX's checker passes.
    """
    nodes = [*part.nodes, *needed_nodes(graph, EMBEDDING)]
    taken: set[str] = set()
    for node in nodes:
        del node.metadata_props[:]
        node.doc_string = ""
        if not node.name or node.name in taken:
            node.name = node.output[0]
        taken.add(node.name)
    used = {read for node in nodes for read in _read(node)}
    constants = [plain(tensor) for tensor in graph.initializer if tensor.name in used]
    crops = helper.make_tensor_value_info(CROPS, TensorProto.UINT8, ["N", size_px, size_px, 3])
    embedding = helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["N", dimension])
    made = helper.make_graph(nodes, name, [crops], [embedding], [*part.constants, *constants])
    try:
        return close(made)
    except Exception as error:  # the checker's and shape inference's errors, of several kinds
        raise BundleError(f"{name}: the graph does not pass ONNX's checker ({one_line(error)})") from error


def plain(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The same numbers and name, without words about where they came from."""
    return numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)


def one_line(error: Exception) -> str:
    """The first line of somebody else's error, at most 200 letters."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return "".join(letter for letter in first if letter.isprintable())[:200].strip() or type(error).__name__


def _read(node: onnx.NodeProto) -> Iterable[str]:
    """What a node reads, with what its inner graphs read."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for each in graphs_of(inner):
                for inside in each.node:
                    yield from inside.input
                yield from (end.name for end in each.output)
