"""Writing an encoder bundle: the model, its id, how far it is from its reference, and the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from pydantic import JsonValue

import psm_stream
from psm_export.model import Model
from psm_stream.align import template
from psm_stream.bundle import (
    CHECK,
    ENCODER,
    MANIFEST,
    READS,
    SCHEMA,
    Alignment,
    InputSpec,
    Manifest,
    OutputSpec,
    Parity,
    Precision,
    manifest_digest,
)
from psm_stream.errors import BundleError

CROP_PX = 128
OURS = Alignment(template=template.NAME, crop_px=CROP_PX)
"""The canonical crop of the live path, which this project's own encoders are made for."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a manifest says that the model itself does not."""

    name: str
    note: str
    architecture: str
    normalisation: str
    precision: Precision
    trained: bool
    licence: str
    created_by: str
    training: Mapping[str, JsonValue]
    parent: str | None = None
    person: str | None = None
    training_data: tuple[str, ...] = ()
    made_from: Mapping[str, JsonValue] = field(default_factory=dict)
    alignment: Alignment = OURS


def describe(model: Model, name: str, precision: Precision, created_by: str = "psm-export") -> Description:
    """Take what a model says of itself into the manifest of its bundle. name: of the bundle."""
    about = model.about
    return Description(
        name=name,
        note=about.note,
        architecture=about.architecture,
        normalisation=model.pixels.described(),
        precision=precision,
        trained=about.trained,
        licence=about.licence,
        created_by=created_by,
        training=about.training,
        parent=about.parent,
        person=about.person,
        training_data=about.training_data,
        made_from=about.made_from,
        alignment=model.alignment,
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


def write_bundle(
    folder: Path, model: onnx.ModelProto, about: Description, parity: Parity, check: bytes = b""
) -> Manifest:
    """Write `encoder.onnx`, `check.npz` and, last, `manifest.json` into a folder that has none of them.

    check: content of check.npz (parity/check.py); empty: the bundle has none. What was written of a bundle that could
    not be finished is taken away again. Raises BundleError: a bundle is there already, or the folder cannot be written.
    """
    content = model.SerializeToString(deterministic=True)
    files = {ENCODER: content, **({CHECK: check} if check else {})}
    (crops,), (embedding,) = model.graph.input, model.graph.output
    size_px = crops.type.tensor_type.shape.dim[1].dim_value
    manifest = Manifest(
        schema=SCHEMA,
        requires=READS,
        name=about.name,
        model_id=model_id(model),
        trained=about.trained,
        note=about.note,
        architecture=about.architecture,
        precision=about.precision,
        input=InputSpec(size_px=size_px, normalisation=about.normalisation),
        output=OutputSpec(dimension=embedding.type.tensor_type.shape.dim[1].dim_value),
        alignment=about.alignment,
        files={name: hashlib.sha256(part).hexdigest() for name, part in files.items()},
        parent=about.parent,
        person=about.person,
        training=dict(about.training),
        training_data=about.training_data,
        made_from=dict(about.made_from),
        parity=parity,
        licence=about.licence,
        created_by=f"{about.created_by}, psm-stream {psm_stream.__version__}",
    )
    tree = manifest.model_dump(mode="json", by_alias=True)
    manifest = manifest.model_copy(update={"digest": manifest_digest(tree)})
    text = f"{manifest.model_dump_json(by_alias=True, indent=2)}\n"
    _write_new(folder, {**files, MANIFEST: text.encode()})
    return manifest


def _write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that are not there yet; all of them or none."""
    written: list[Path] = []
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with (folder / name).open("xb") as file:
                written.append(folder / name)
                file.write(content)
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, FileExistsError):
            raise BundleError(f"{error.filename} exists; a bundle is never overwritten, give another folder") from None
        raise BundleError(f"cannot write the bundle {folder}: {error.strerror or error}") from None
