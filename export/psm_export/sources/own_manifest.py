"""The small manifest of somebody's own model: what its network takes, what it gives, and what is said of it.

A YAML or JSON file, given by name or found beside the model under the same name; docs/own-models.md has every key.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from psm_export.model import About, Crops, Pixels
from psm_stream.align import template
from psm_stream.bundle import Alignment
from psm_stream.errors import ConfigError
from psm_stream.sections import Section, build, read_yaml

ENDINGS = (".yaml", ".yml", ".json")
Three = tuple[float, float, float]
Range = Literal["0..255", "0..1", "-1..1"]

_OURS = Alignment(template=template.NAME, crop_px=128)
_SCALES: dict[Range, tuple[float, float]] = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0)}
"""Range -> (factor, summand) that bring grey levels of 255 to it."""


class InputKeys(Section):
    """What the network takes."""

    size_px: int = Field(ge=8, le=1024)
    """Side of the square image."""
    colour: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    range: Range
    """What black and white are, before mean and deviation."""
    mean: Three = (0.0, 0.0, 0.0)
    """Taken off, in units of the range and in the order of the colours."""
    deviation: Three = (1.0, 1.0, 1.0)
    """Divided by, after that."""
    dtype: Literal["float32", "uint8"] = "float32"
    name: str | None = None
    """Which input of the graph, where it has several."""

    @model_validator(mode="after")
    def _agrees(self) -> InputKeys:
        if not all(self.deviation):
            raise ValueError("deviation must not be 0")
        if self.dtype == "uint8" and (self.range != "0..255" or any(self.mean) or set(self.deviation) != {1.0}):
            raise ValueError("dtype uint8 goes with range 0..255 and neither mean nor deviation")
        return self

    def pixels(self) -> Pixels:
        """The same, as every graph here is written: (grey level - mean) / deviation."""
        factor, summand = _SCALES[self.range]
        mean = tuple((value - summand) / factor for value in self.mean)
        deviation = tuple(value / factor for value in self.deviation)
        return Pixels(self.size_px, self.colour, _three(mean), _three(deviation))


class OutputKeys(Section):
    """What the network gives."""

    dimension: int = Field(ge=1, le=65536)
    """Numbers in an embedding."""
    name: str | None = None
    """Which output of the graph, where it has several."""


class AlignmentKeys(Section):
    """How a face must be cropped; ours where nothing is said."""

    template: Annotated[str, Field(min_length=1)] | None = None
    """Name of the crop, for people."""
    eye_distance: float = Field(default=_OURS.eye_distance, gt=0.05, lt=0.9)
    eye_line_y: float = Field(default=_OURS.eye_line_y, gt=0.05, lt=0.95)
    crop_px: int | None = Field(default=None, ge=8, le=1024)
    """Side of the crop that is scaled down to the input; the input's own size if not given."""


class OwnManifest(Section):
    """All keys."""

    name: Annotated[str, Field(min_length=1)] | None = None
    input: InputKeys
    output: OutputKeys
    alignment: AlignmentKeys = AlignmentKeys()
    licence: str = Field(default="unknown", min_length=1)
    training_data: tuple[str, ...] = ()
    note: str = ""
    trained: bool = True
    check: str | None = None
    """An .npz file beside the manifest: `crops` and the `embeddings` that the author measured of them."""


Expected = tuple[Crops, NDArray[np.float32]]


def find_manifest(model: Path, given: Path | None) -> Path:
    """Return the manifest of a model's file. Raises ConfigError: none is given and none lies beside it, or several."""
    if given is not None:
        return given
    beside = [path for ending in ENDINGS if (path := model.with_suffix(ending)).is_file()]
    if len(beside) != 1:
        found = f"{len(beside)} manifests lie beside it" if beside else "no manifest lies beside it"
        raise ConfigError(
            f"{model}: {found}; write {model.stem}.yaml, or give one with --manifest FILE (docs/own-models.md)"
        )
    return beside[0]


def read_own_manifest(path: Path) -> OwnManifest:
    """Read a manifest. Raises ConfigError: it is missing, not YAML or JSON, or a key or value is wrong."""
    tree = read_yaml(path, "input")
    try:
        return build(OwnManifest, tree, {})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def about_own(path: Path, manifest: OwnManifest, kind: str) -> About:
    """What is said of a model. path: of its file. kind: of that file, in words."""
    return About(
        name=manifest.name or path.stem,
        architecture=manifest.name or path.stem,
        licence=manifest.licence,
        training_data=manifest.training_data,
        note=manifest.note,
        trained=manifest.trained,
        made_from={"kind": kind, "name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
    )


def alignment_of(manifest: OwnManifest) -> Alignment:
    """The crop that a manifest asks for, ours where it asks for none; never smaller than the network's input."""
    size_px, said = manifest.input.size_px, manifest.alignment
    is_ours = (said.eye_distance, said.eye_line_y) == (_OURS.eye_distance, _OURS.eye_line_y)
    return Alignment(
        template=said.template or (_OURS.template if is_ours else "own"),
        crop_px=max(said.crop_px or size_px, size_px),
        eye_distance=said.eye_distance,
        eye_line_y=said.eye_line_y,
    )


def read_expected(path: Path, manifest: OwnManifest) -> Expected | None:
    """Read the crops and embeddings that the author measured. path: of the manifest.

    Raises ConfigError: the file is missing, no such archive, would execute code, or its arrays do not fit the manifest.
    """
    if manifest.check is None:
        return None
    file = path.parent / manifest.check
    try:
        with np.load(file, allow_pickle=False) as arrays:
            crops, embeddings = arrays["crops"], arrays["embeddings"]
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{path}: check file {file} cannot be read ({reason}); write it with numpy.savez(file, crops=, embeddings=)"
        ) from None
    size, dimension = manifest.input.size_px, manifest.output.dimension
    if crops.dtype != np.uint8 or crops.shape[1:] != (size, size, 3) or len(crops) == 0:
        raise ConfigError(
            f"{file}: crops are {crops.dtype} {list(crops.shape)}, expected uint8 [N, {size}, {size}, 3] RGB"
        )
    if embeddings.dtype not in (np.float32, np.float64) or embeddings.shape != (len(crops), dimension):
        raise ConfigError(
            f"{file}: embeddings are {embeddings.dtype} {list(embeddings.shape)}, expected float32 "
            f"[{len(crops)}, {dimension}]"
        )
    if not np.isfinite(embeddings).all():
        raise ConfigError(f"{file}: embeddings have numbers that are not finite; measure them again")
    return crops, embeddings.astype(np.float32)


def _three(values: tuple[float, ...]) -> Three:
    first, second, third = values
    return first, second, third
