"""Writing an encoder bundle: the model, its id, how far it is from its reference, and the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import JsonValue

import psm_stream
from psm_export import facecycle
from psm_export.checkpoint import EncoderCheckpoint
from psm_stream.align import template
from psm_stream.bundle import ENCODER, MANIFEST, Alignment, InputSpec, Manifest, OutputSpec, Parity
from psm_stream.errors import BundleError

CROP_PX = 128
_FLOAT_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Description:
    """What a manifest says that the model itself does not."""

    name: str
    note: str
    architecture: str
    normalisation: str
    precision: Literal["fp32", "fp16", "int8"]
    trained: bool
    licence: str
    created_by: str
    training: Mapping[str, JsonValue]
    parent: str | None = None
    person: str | None = None


def describe(
    checkpoint: EncoderCheckpoint, name: str, precision: Literal["fp32", "int8"], created_by: str = "psm-export"
) -> Description:
    """Take what a checkpoint says of itself into the manifest of its encoder's bundle. name: of the bundle."""
    about = checkpoint.about
    untrained = "" if about.is_trained else "UNTRAINED: its weights are as they were drawn"
    return Description(
        name=name,
        note="; ".join(filter(None, (untrained, about.note))),
        architecture=facecycle.ARCHITECTURE,
        normalisation="inside the graph: ImageNet mean and deviation",
        precision=precision,
        trained=about.is_trained,
        licence=about.licence,
        created_by=created_by,
        training={**about.training, "epoch": about.epoch, "step": about.step, "checkpoint": about.model_id},
        parent=about.parent,
        person=about.person,
    )


def model_id(model: onnx.ModelProto) -> str:
    """Name a model by its numbers.

    The first 12 hex digits of the sha256 over the raw little-endian bytes of every initialiser of the graph (weights,
    and with them scales, zero points and constant shapes), in order of their names by code point. Names, nodes and the
    file's own layout do not enter.
    """
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        values = numpy_helper.to_array(tensor)
        digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:12]


def measure_parity(reference: NDArray[np.float64], given: NDArray[np.float32], against: str) -> Parity:
    """Compare embeddings [N, D] with the reference's [N, D]. against: what the reference is, in words.

    The tolerance is twice the largest difference: two machines that are each so far from the reference may be that far
    from each other; never under 1e-4, what float32 kernels differ by.
    """
    difference = np.abs(reference - given)
    lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(given, axis=1)
    cosine = (reference * given).sum(axis=1) / lengths
    largest = _digits(difference.max())
    return Parity(
        reference=against,
        crops=len(reference),
        max_abs=largest,
        mean_abs=_digits(difference.mean()),
        cosine=round(float(cosine.min()), 6),
        tolerance=max(_FLOAT_TOLERANCE, _digits(2 * largest)),
    )


def write_bundle(folder: Path, model: onnx.ModelProto, about: Description, parity: Parity) -> Manifest:
    """Write `encoder.onnx` and `manifest.json` into a folder that has neither.

    Raises BundleError: a bundle is there already, or the folder cannot be written.
    """
    content = model.SerializeToString(deterministic=True)
    (crops,), (embedding,) = model.graph.input, model.graph.output
    size_px = crops.type.tensor_type.shape.dim[1].dim_value
    manifest = Manifest(
        schema=1,
        name=about.name,
        model_id=model_id(model),
        trained=about.trained,
        note=about.note,
        architecture=about.architecture,
        precision=about.precision,
        input=InputSpec(size_px=size_px, normalisation=about.normalisation),
        output=OutputSpec(dimension=embedding.type.tensor_type.shape.dim[1].dim_value),
        alignment=Alignment(template=template.NAME, crop_px=CROP_PX),
        files={ENCODER: hashlib.sha256(content).hexdigest()},
        parent=about.parent,
        person=about.person,
        training=dict(about.training),
        parity=parity,
        licence=about.licence,
        created_by=f"{about.created_by}, psm-stream {psm_stream.__version__}",
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_new(folder / ENCODER, content)
        _write_new(folder / MANIFEST, f"{manifest.model_dump_json(by_alias=True, indent=2)}\n".encode())
    except FileExistsError as error:
        raise BundleError(f"{error.filename} exists; a bundle is never overwritten, give another folder") from None
    except OSError as error:
        raise BundleError(f"cannot write the bundle {folder}: {error.strerror or error}") from None
    return manifest


def _write_new(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)


def _digits(value: float) -> float:
    """Two significant digits, which is more than such a figure means."""
    return float(f"{value:.1e}")
