"""What a bundle carries to be checked by, on any machine: `check.npz`.

Crops of a public-domain photograph (nobody else's face goes into a bundle), what the float32 reference makes of them,
and a few values of each layer as the graph gave them on the CPU where it was made, so that a machine that differs can
be told at which layer. Plain arrays; nothing in the file can execute code.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import onnx
from numpy.typing import NDArray

from psm_export.crops import photograph
from psm_export.model import Crops, Model
from psm_export.parity.tracing import layer_names, layer_values
from psm_stream.bundle import CHECK, EncoderBundle
from psm_stream.errors import BundleError

MIRRORED = 4
"""Mirrored crops beside the twelve as they are; sixteen in all."""
_LARGEST = 256 << 20
"""Bytes that the file may claim to hold; sixteen crops of 1024 px are a fifth of it."""
_SAMPLES = 16
"""Values of each layer and crop, evenly spaced over the tensor."""


@dataclass(frozen=True, slots=True)
class Check:
    """crops: [N, S, S, 3] uint8 RGB. embeddings: [N, D] float32, the reference's.

    layers: names of tensors in order of computation. samples: [L, N, 16] float32, values of theirs.
    """

    crops: Crops
    embeddings: NDArray[np.float32]
    layers: tuple[str, ...]
    samples: NDArray[np.float32]


def check_crops(size_px: int) -> Crops:
    """Return the crops that every bundle of this size is checked by, [16, S, S, 3] RGB."""
    straight, mirrored = photograph(size_px=size_px), photograph(size_px=size_px, mirrored=True)
    return np.concatenate([straight, mirrored[:MIRRORED]])


def make_check(model: Model, graph: onnx.ModelProto) -> Check:
    """Run the reference and the graph over the crops. Takes a fraction of a second for FaceCycle's encoder."""
    crops = check_crops(model.pixels.size_px)
    names = layer_names(graph)
    return Check(crops, model.reference.encode(crops), tuple(names), sampled(graph, names, crops))


def sampled(graph: onnx.ModelProto, names: list[str], crops: Crops) -> NDArray[np.float32]:
    """Values of each named layer at fixed places, [L, N, 16]. A layer that the graph lacks is NaN."""
    values = layer_values(graph, names, crops)
    samples = np.full((len(names), len(crops), _SAMPLES), np.nan, np.float32)
    for place, name in enumerate(names):
        if name in values:
            flat = values[name].reshape(len(crops), -1)
            samples[place] = flat[:, np.linspace(0, flat.shape[1] - 1, _SAMPLES).astype(int)]
    return samples


def to_bytes(check: Check) -> bytes:
    """Return the file's content. The same check gives the same bytes."""
    file = io.BytesIO()
    layers = np.array(check.layers, dtype=np.str_)
    np.savez_compressed(file, crops=check.crops, embeddings=check.embeddings, layers=layers, samples=check.samples)
    return file.getvalue()


def read_check(bundle: EncoderBundle) -> Check:
    """Read a bundle's check. Never unpickles.

    Raises BundleError: the bundle has none (those of before psm-stream 0.2), or it is not such a file. DigestMismatch:
    it is not the one that the manifest names.
    """
    if CHECK not in bundle.manifest.files:
        raise BundleError(
            f"encoder bundle {bundle.folder} has no {CHECK} to be checked by; give --against MODEL, what it was made of"
        )
    try:
        content = bundle.read(CHECK)
        with ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                raise ValueError(f"it claims more than {_LARGEST >> 20} MB")
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("crops", "embeddings", "layers", "samples")}
    except (ValueError, KeyError, OSError, EOFError, BadZipFile, MemoryError) as error:
        message = " ".join(str(error).split())[:200]
        raise BundleError(f"encoder bundle {bundle.folder}: {CHECK} cannot be read: {message}") from None
    check = Check(arrays["crops"], arrays["embeddings"], tuple(map(str, arrays["layers"])), arrays["samples"])
    if problem := _problem(check, bundle):
        raise BundleError(f"encoder bundle {bundle.folder}: {CHECK}: {problem}; make the bundle again")
    return check


def _problem(check: Check, bundle: EncoderBundle) -> str:
    """Say what is wrong with the arrays' shapes and types; nothing when they are as they must be."""
    size, dimension = bundle.manifest.input.size_px, bundle.manifest.output.dimension
    count = len(check.crops) if check.crops.ndim else 0
    wanted: dict[str, tuple[NDArray[Any], type, tuple[int, ...]]] = {
        "crops": (check.crops, np.uint8, (count, size, size, 3)),
        "embeddings": (check.embeddings, np.float32, (count, dimension)),
        "samples": (check.samples, np.float32, (len(check.layers), count, _SAMPLES)),
    }
    for name, (array, dtype, shape) in wanted.items():
        if array.dtype != dtype or array.shape != shape or not count:
            return f"{name} is {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} {list(shape)}"
    return "" if np.isfinite(check.embeddings).all() else "embeddings are not all finite"
