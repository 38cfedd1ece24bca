"""Somebody's own ONNX file as a `Model`, by the small manifest beside it (`own_manifest`).

The reference is ONNX Runtime on the file as it is, without optimisations, fed with pixels that numpy made; the graph is
the same with pixels put before and the output as rows. A file that takes one picture at a time is made to take any
number where that gives the same numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from psm_export.graphs.graph_editing import (
    EMBEDDING,
    add_biases,
    constants_as_initialisers,
    end_in_embedding,
    joined,
    one_line,
    rename,
)
from psm_export.graphs.pixel_part import CROPS, PixelPart
from psm_export.model import Crops, Model
from psm_export.sources.onnx_safety import load_model, of_our_opset
from psm_export.sources.own_manifest import (
    InputKeys,
    OwnManifest,
    about_own,
    alignment_of,
    find_manifest,
    read_expected,
    read_own_manifest,
)
from psm_stream.bundle import Alignment
from psm_stream.errors import BundleError

Array = NDArray[np.float32]
_LAYERS = ("Conv", "Gemm", "MatMul")
_AT_ONCE = 8
_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
_FREE = "torch.onnx.export(..., dynamic_shapes=({0: torch.export.Dim('N')},))"


def read_onnx(path: Path, manifest: Path | None = None, alignment: Alignment | None = None) -> Model:
    """Read an ONNX file and its manifest. manifest: None is the one beside it. alignment: in place of the manifest's.

    Raises ConfigError: the manifest is missing or wrong. BundleError: the file is unsafe or damaged, or is not what
    the manifest says.
    """
    place = find_manifest(path, manifest)
    said = read_own_manifest(place)
    file = _File(path, load_model(path), said)
    dimension = file.measured_dimension()
    if dimension != said.output.dimension:
        raise BundleError(
            f"{path} gives {dimension} numbers for a face, its manifest says {said.output.dimension}; correct "
            "output.dimension, or output.name if that is another output"
        )
    return Model(
        about=about_own(path, said, "ONNX file"),
        pixels=said.input.pixels(),
        alignment=alignment or alignment_of(said),
        dimension=dimension,
        reference=file,
        build=file.build,
        expected=read_expected(place, said),
    )


def fed(keys: InputKeys, crops: Crops) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Bring crops [N, S, S, 3] RGB to what a network takes, in numpy."""
    if keys.dtype == "uint8":
        ordered = crops if keys.colour == "RGB" else crops[..., ::-1]
        return np.ascontiguousarray(ordered if keys.layout == "NHWC" else ordered.transpose(0, 3, 1, 2))
    planes = keys.pixels().of(crops)
    return planes if keys.layout == "NCHW" else np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


@dataclass(frozen=True, slots=True)
class _Ends:
    """The input and output that are used, and how many pictures the input says it takes; None: any number."""

    input: str
    output: str
    count: int | None


class _File:
    """A model as it is, which is its own reference, and the graph that is made of it."""

    described = "the ONNX file as it is, by ONNX Runtime without optimisations"

    def __init__(self, path: Path, model: onnx.ModelProto, said: OwnManifest) -> None:
        self._path, self._model, self._said = path, model, said
        self._ends = _ends(path, model, said)
        self._session = _open(path, model)

    def encode(self, crops: Crops) -> Array:
        """Encode crops [N, S, S, 3]. Returns [N, D]."""
        (values,) = self._run(self._session, [self._ends.output], crops)
        return values.reshape(len(crops), -1).astype(np.float32)

    def trace(self, crops: Crops) -> Mapping[str, Array]:
        """Return what convolutions and matrix products give, by their tensors' names in the file."""
        names = [node.output[0] for node in self._model.graph.node if node.op_type in _LAYERS]
        watched = onnx.ModelProto()
        watched.CopyFrom(self._model)
        there = {end.name for end in watched.graph.output}
        watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
        values = self._run(_open(self._path, watched), names, crops)
        layers = zip(names, values, strict=True)
        return {name: value for name, value in layers if value.dtype == np.float32 and len(value) == len(crops)}

    def eager(self) -> Callable[[Crops], object] | None:
        """None: there is no PyTorch model."""
        return None

    def measured_dimension(self) -> int:
        """D, by running one black picture. Raises BundleError: the file does not run."""
        size = self._said.input.size_px
        return int(self.encode(np.zeros((1, size, size, 3), np.uint8)).shape[1])

    def build(self) -> onnx.ModelProto:
        """Write the graph that bundles hold. Raises BundleError: it cannot take several pictures, or does not pass."""
        model = onnx.ModelProto()
        model.CopyFrom(of_our_opset(self._path, self._model))
        graph = model.graph
        constants_as_initialisers(graph)
        add_biases(graph)
        if self._ends.count is not None:
            _free_batch(graph)
        size, keys = self._said.input.size_px, self._said.input
        values = self._run(self._session, [self._ends.output], np.zeros((1, size, size, 3), np.uint8))[0]
        part = PixelPart(keys.pixels(), keys.layout, keys.dtype)
        rename(graph, {**_out_of_the_way(graph, self._ends), self._ends.input: part.output})
        output = part.output if self._ends.output == self._ends.input else _moved(self._ends.output)
        end_in_embedding(graph, output, values.ndim, values.dtype == np.float32)
        try:
            made = joined(graph, part, self._said.name or self._path.stem, size, self._said.output.dimension)
        except BundleError as error:
            if self._ends.count is None:
                raise
            raise self._for_one(f"does not pass ONNX's checker ({one_line(error)})") from error
        self._check_batches(made)
        return made

    def _run(self, session: onnxruntime.InferenceSession, names: Sequence[str], crops: Crops) -> list[NDArray]:  # type: ignore[type-arg]
        step = self._ends.count or _AT_ONCE
        parts = []
        for start in range(0, len(crops), step):
            given = {self._ends.input: fed(self._said.input, crops[start : start + step])}
            try:
                parts.append(session.run(list(names), given))
            except Exception as error:  # ONNX Runtime's errors, of several kinds
                raise BundleError(f"{self._path} does not run in ONNX Runtime ({one_line(error)})") from error
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def _check_batches(self, made: onnx.ModelProto) -> None:
        """Three faces at once must give what each alone gives: a graph that was made for one may have mixed them."""
        size = self._said.input.size_px
        crops = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
        trouble = ""
        try:
            (given,) = _open(self._path, made).run([EMBEDDING], {CROPS: crops})
            wanted = self.encode(crops)
            if given.shape != wanted.shape or not np.allclose(
                given, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max()
            ):
                trouble = "gives other numbers for several faces at once"
        except Exception as error:  # what ONNX Runtime raises when shapes do not fit
            trouble = f"does not run for several faces at once ({one_line(error)})"
        if trouble:
            raise self._for_one(trouble)

    def _for_one(self, trouble: str) -> BundleError:
        said = "takes one picture at a time, and made to take any number it " if self._ends.count else ""
        return BundleError(f"{self._path} {said}{trouble}; export it with a free batch: {_FREE}")


def _open(path: Path, model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        with contextlib.redirect_stdout(None):  # it prints that it tries again, with the same provider
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors, of several kinds
        raise BundleError(f"{path} does not run in ONNX Runtime ({one_line(error)})") from error


def _ends(path: Path, model: onnx.ModelProto, said: OwnManifest) -> _Ends:
    """Find the input and output that the manifest means, and check the input against it."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {end.name: end for end in graph.input if end.name not in weights}
    name = _chosen(path, "input", list(inputs), said.input.name)
    output = _chosen(path, "output", [end.name for end in graph.output], said.output.name)
    if len(inputs) > 1:
        raise BundleError(f"{path} takes {', '.join(inputs)}; a model that takes a face alone can be exported")
    tensor = inputs[name].type.tensor_type
    if tensor.elem_type != _TYPES[said.input.dtype]:
        given = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise BundleError(f"{path}: input {name} is {given}, its manifest says {said.input.dtype}")
    shape = [dim.dim_value or None for dim in tensor.shape.dim]
    size = said.input.size_px
    wanted = [3, size, size] if said.input.layout == "NCHW" else [size, size, 3]
    if len(shape) != 4 or any(is_ not in (None, must) for is_, must in zip(shape[1:], wanted, strict=True)):
        shown = [dim or "free" for dim in shape]
        raise BundleError(
            f"{path}: input {name} is {shown}, its manifest says [N, {', '.join(map(str, wanted))}] "
            f"({said.input.layout}); correct size_px or layout"
        )
    if shape[0] not in (None, 1):
        raise BundleError(f"{path} takes {shape[0]} pictures at a time; export it with a free batch: {_FREE}")
    return _Ends(name, output, shape[0])


def _chosen(path: Path, end: str, names: Sequence[str], wanted: str | None) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None or wanted not in names:
        said = f"no {end} {wanted!r}" if wanted else f"{len(names)} {end}s"
        raise BundleError(f"{path} has {said}; set {end}.name in its manifest to one of {', '.join(names)}"[:400])
    return wanted


def _free_batch(graph: onnx.GraphProto) -> None:
    """Make a graph for one picture take any number: shapes that begin with 1 keep what they are given."""
    del graph.value_info[:]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is None:
            continue
        values = numpy_helper.to_array(shape).copy()
        if len(values) > 1 and values[0] == 1 and all(values[1:]):
            values[0] = 0  # ONNX: as the input has it, unless the node takes zeros for zeros
            kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
            fresh = f"{node.output[0]}/any.shape"
            graph.initializer.append(numpy_helper.from_array(values, fresh))
            node.input[1] = fresh


def _moved(name: str) -> str:
    return f"own/{name}" if name in (CROPS, EMBEDDING) or name.startswith("pixels/") else name


def _out_of_the_way(graph: onnx.GraphProto, ends: _Ends) -> dict[str, str]:
    """New names for tensors that are called as ours are."""
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {tensor.name for tensor in graph.initializer}
    return {name: _moved(name) for name in names - {ends.input} if _moved(name) != name}
