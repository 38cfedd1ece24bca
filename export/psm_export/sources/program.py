"""Somebody's own network as a program of torch.export (.pt2), by the small manifest beside it (`own_manifest`).

The reference is the program itself, run by PyTorch; the graph is what PyTorch's exporter writes of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node

from psm_export.graphs.graph_editing import one_line
from psm_export.graphs.to_onnx import Exported, quiet, to_onnx
from psm_export.model import Crops, Model
from psm_export.sources.own_manifest import (
    OwnManifest,
    about_own,
    alignment_of,
    find_manifest,
    read_expected,
    read_own_manifest,
)
from psm_export.sources.program_archive import cleaned
from psm_export.sources.torch_reference import TorchReference, Values, values_of_program
from psm_export.sources.user import fed
from psm_stream.bundle import Alignment
from psm_stream.errors import BundleError, CheckpointError

_FREE = (
    'torch.export.export(model.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("N", min=1, max=1024)},)), '
    "with an example of 2 pictures"
)

_TRAINING = {"aten.batch_norm.default": 5, "aten.dropout.default": 2}
"""Operators that say whether they train, and in which argument."""


def read_program(path: Path, manifest: Path | None = None, alignment: Alignment | None = None) -> Model:
    """Read a .pt2 file and its manifest. manifest: None is the one beside it. alignment: in place of the manifest's.

    Raises ConfigError: the manifest is missing or wrong. CheckpointError: the file is damaged or could execute code.
    BundleError: the program is not what the manifest says, or takes a fixed number of pictures.
    """
    place = find_manifest(path, manifest)
    said = read_own_manifest(place)
    program = load_program(path)
    _check_ends(path, program, said)
    keys, pixels = said.input, said.input.pixels()
    is_usual = keys.layout == "NCHW" and keys.dtype == "float32"
    written: list[Exported] = []

    def exported() -> Exported:
        if not written:  # seconds of work, for the graph and for looking into it
            name = said.name or path.stem
            written.append(to_onnx(program, pixels, name, keys.layout, keys.dtype))
        return written[0]

    def look(crops: Crops) -> Values:
        each = exported()
        return values_of_program(each.program, torch.from_numpy(fed(keys, crops)), each.names)

    reference = TorchReference(
        program.module(),
        pixels,
        look,
        "the program itself in PyTorch, float32",
        None if is_usual else lambda crops: fed(keys, crops),
    )
    _check_dimension(path, reference, said)
    return Model(
        about=about_own(path, said, "torch.export program"),
        pixels=pixels,
        alignment=alignment or alignment_of(said),
        dimension=said.output.dimension,
        reference=reference,
        build=lambda: exported().graph,
        expected=read_expected(place, said),
    )


def load_program(path: Path) -> ExportedProgram:
    """Load a program, once its file was found to hold nothing that executes.

    Raises CheckpointError: see `program_archive.cleaned`; or PyTorch cannot load it.
    """
    if not path.is_file():
        raise CheckpointError(f"cannot read {path}: no such file")
    archive = cleaned(path)
    try:
        with quiet():
            return torch.export.load(archive)
    except Exception as error:  # whatever a program of another version raises
        raise CheckpointError(
            f"{path} cannot be loaded by PyTorch {torch.__version__} ({one_line(error)}); save it with this version"
        ) from error


def _check_ends(path: Path, program: ExportedProgram, said: OwnManifest) -> None:
    signature = program.graph_signature
    kinds = {spec.kind for spec in signature.output_specs}
    if kinds - {OutputKind.USER_OUTPUT} or any(map(_is_training, program.graph.nodes)):
        raise BundleError(
            f"{path} was exported in training, where a face's numbers depend on the others; export it with {_FREE}"
        )
    inputs = [spec.arg.name for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT]
    if len(inputs) != 1 or len(signature.output_specs) != 1:
        raise BundleError(
            f"{path} takes {len(inputs)} inputs and gives {len(signature.output_specs)} outputs; export a module that "
            "takes pictures alone and gives embeddings alone"
        )
    value = next(node.meta["val"] for node in program.graph.nodes if node.name == inputs[0])
    if not isinstance(value, torch.Tensor):
        raise BundleError(f"{path} takes something else than pictures; export a module that takes pictures alone")
    if isinstance(value.shape[0], int):
        raise BundleError(
            f"{path} takes {value.shape[0]} pictures at a time, no more and no fewer; export it with {_FREE}"
        )
    keys = said.input
    wanted = [3, keys.size_px, keys.size_px] if keys.layout == "NCHW" else [keys.size_px, keys.size_px, 3]
    if value.ndim != 4 or any(
        isinstance(is_, int) and is_ != must for is_, must in zip(value.shape[1:], wanted, strict=True)
    ):
        raise BundleError(
            f"{path} takes {[str(size) for size in value.shape]}, its manifest says "
            f"[N, {', '.join(map(str, wanted))}]; correct size_px or layout"
        )
    if str(value.dtype) != f"torch.{keys.dtype}":
        raise BundleError(f"{path} takes {value.dtype}, its manifest says {keys.dtype}; correct input.dtype")


def _is_training(node: Node) -> bool:
    """Whether a node normalises over the batch, or drops values."""
    place = _TRAINING.get(str(node.target))
    return place is not None and len(node.args) > place and node.args[place] is True


def _check_dimension(path: Path, reference: TorchReference, said: OwnManifest) -> None:
    size = said.input.size_px
    try:
        shape = reference.encode(np.zeros((1, size, size, 3), np.uint8)).shape
    except Exception as error:  # what PyTorch raises: a program that takes two pictures or more
        raise BundleError(f"{path} does not run for one picture ({one_line(error)}); export it with {_FREE}") from error
    if shape[1] != said.output.dimension:
        raise BundleError(
            f"{path} gives {shape[1]} numbers for a face, its manifest says {said.output.dimension}; correct "
            "output.dimension"
        )
