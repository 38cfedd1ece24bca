"""Encoder bundles: a folder with `encoder.onnx` and the `manifest.json` that says what it is.

`open_bundle` is the only way in. It checks everything that can be checked without running the model, so that a corrupt
or foreign bundle is refused at start and not at frame 10,000. Only files that the manifest names are ever read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import PydanticCustomError

import psm_stream
from psm_stream.errors import BundleError, DigestMismatch

SCHEMA: Final = 2
READS = "0.2.0"
"""The first psm-stream that reads manifests of this schema; written into each as `requires`."""
MANIFEST = "manifest.json"
ENCODER = "encoder.onnx"
CHECK = "check.npz"
"""Crops of a photograph and what the reference makes of them: what `psm-export verify` runs the model over."""

Precision = Literal["fp32", "fp16", "int8"]
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ModelId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


def _in_one_line(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("text", "control characters or line ends in a text that is shown")
    return text


Text = Annotated[str, AfterValidator(_in_one_line)]
"""What is shown to people, in one line: it must not move their cursor."""
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$")]
"""A plain name, so that no manifest can point out of its folder."""


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class InputSpec(_Section):
    """What the graph takes."""

    name: Literal["crops"] = "crops"
    size_px: int = Field(ge=8, le=1024)
    """Side of the square image."""
    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["uint8"] = "uint8"
    colour: Literal["RGB"] = "RGB"
    range: tuple[int, int] = (0, 255)
    normalisation: Text = "inside the graph"
    """How the graph normalises pixels, for people to read."""


class OutputSpec(_Section):
    """What the graph gives."""

    name: Literal["embedding"] = "embedding"
    dtype: Literal["float32"] = "float32"
    dimension: int = Field(ge=1, le=65536)


class Alignment(_Section):
    """How a face must be cropped before it goes in."""

    template: Text
    """Name of the canonical crop, for people: the two numbers below say where the eyes come to lie."""
    crop_px: int = Field(ge=8, le=1024)
    """Side of the aligned crop that the model was made for."""
    scaling: Literal["area"] = "area"
    """How the crop is brought to `input.size_px`."""
    eye_distance: float = Field(default=0.38, gt=0.05, lt=0.9)
    """Distance of the eye centres, as a share of the crop's side."""
    eye_line_y: float = Field(default=0.34, gt=0.05, lt=0.95)
    """How far below the crop's upper edge the eyes lie, as a share of its side."""


class Parity(_Section):
    """How far the graph is from the reference that it was made from, over some test crops."""

    reference: Text
    """What it was compared with."""
    crops: int = Field(ge=0)
    """How many crops were compared."""
    max_abs: float = Field(ge=0)
    mean_abs: float = Field(ge=0)
    cosine: float = Field(ge=-1, le=1.001)
    """Smallest cosine similarity over the crops."""
    tolerance: float = Field(ge=0)
    """Largest absolute difference in a value that another provider or machine may show."""
    cosine_mean: float | None = Field(default=None, ge=-1, le=1.001)
    """Mean cosine similarity over the crops."""
    neighbours_kept: float | None = Field(default=None, ge=0, le=1)
    """Of the nearest neighbours of each crop by the reference, the share that are so here, too."""
    clusters_kept: float | None = Field(default=None, ge=0, le=1)
    """Share of the crops that fall into the same cluster as by the reference."""
    of: Text = ""
    """How many crops of what, in words."""
    provider: Text = ""
    """Execution provider that ran the graph when this was measured."""
    float_nodes: tuple[Text, ...] = ()
    """Layers that an int8 model keeps in float."""

    @property
    def over(self) -> str:
        """How many crops were compared, and of what, in words."""
        return self.of or f"{self.crops} crops"


class Manifest(_Section):
    """What a bundle says of itself, schema 2; of schema 1 what is missing has its default."""

    schema_version: Literal[1, 2] = Field(alias="schema")
    requires: str | None = Field(default=None, pattern=r"^\d+\.\d+\.\d+$")
    """The first version of psm-stream that reads this schema."""
    name: Text = Field(min_length=1)
    model_id: ModelId
    """First 12 hex digits of the sha256 over the raw little-endian bytes of the graph's initialisers, by name."""
    trained: bool
    note: Text
    """One line for people; an untrained encoder says so here."""
    architecture: Text
    precision: Precision
    input: InputSpec
    output: OutputSpec
    alignment: Alignment
    files: dict[FileName, Sha256]
    parent: ModelId | None = None
    """model_id that training started from."""
    person: Text | None = None
    """Whom it was fine-tuned for; None is for anyone."""
    training: dict[str, JsonValue] = Field(default_factory=dict)
    """What training did, free in form."""
    training_data: tuple[Text, ...] = ()
    """What the weights were trained on, with its licence, one line each; empty: unknown."""
    made_from: dict[str, JsonValue] = Field(default_factory=dict)
    """The file that the weights came from: its kind, name, sha256 and what it asked for; free in form."""
    parity: Parity
    licence: Text = Field(min_length=1)
    digest: Sha256 | None = None
    """`manifest_digest` of all the other keys; schema 1 has none."""
    created_by: Text = Field(min_length=1)

    @property
    def terms(self) -> str:
        """Licence and training data in one line, for people."""
        return f"licence {self.licence}; trained on: {', '.join(self.training_data) or 'nobody said'}"


@dataclass(frozen=True, slots=True)
class EncoderBundle:
    """An opened bundle: every file was there and had its digest when `open_bundle` looked."""

    folder: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Read a file that the manifest names, and check its digest again.

        Raises BundleError: the file is missing or cannot be read. Raises DigestMismatch: it is another file.
        """
        path = self.folder / name
        if not path.is_file():
            raise BundleError(f"encoder bundle {self.folder}: {name} is missing; copy the whole folder again")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"encoder bundle {self.folder}: cannot read {name}: {error.strerror or error}") from None
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.manifest.files[name]:
            raise DigestMismatch(
                f"encoder bundle {self.folder}: {name} has sha256 {digest[:12]}..., the manifest names "
                f"{self.manifest.files[name][:12]}...; the file was changed or cut off, copy the whole folder again"
            )
        return content


def manifest_digest(tree: Mapping[str, Any]) -> str:
    """Sha256 of a manifest's keys but `digest`, as JSON without blanks, keys in order and letters in ASCII."""
    said = {key: value for key, value in tree.items() if key != "digest"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def general_bundle() -> Path:
    """Folder of the general encoder that ships inside the package."""
    return Path(__file__).resolve().parent / "bundles" / "general"


def open_bundle(folder: Path) -> EncoderBundle:
    """Open a bundle and check its manifest and the digest of every file that it names.

    Raises BundleError: no folder, no manifest, a manifest that is not one or of a newer schema, a file missing.
    Raises DigestMismatch: a file is not the one that the manifest names.
    """
    bundle = EncoderBundle(folder, _read_manifest(folder))
    if ENCODER not in bundle.manifest.files:
        raise BundleError(f"encoder bundle {folder}: {MANIFEST} names no {ENCODER}; make the bundle again")
    for name in bundle.manifest.files:
        bundle.read(name)
    return bundle


def _read_manifest(folder: Path) -> Manifest:
    if not folder.exists():
        raise BundleError(f"encoder bundle {folder}: no such folder; give a folder with {MANIFEST} and {ENCODER}")
    if not folder.is_dir():
        raise BundleError(f"encoder bundle {folder} is a file; give the folder with {MANIFEST} and {ENCODER}")
    path = folder / MANIFEST
    if not path.is_file():
        advice = ""
        if (folder / "checkpoint.json").is_file():
            advice = f"; it is a checkpoint: psm-export {folder} --out BUNDLE makes a bundle of it"
        raise BundleError(f"encoder bundle {folder}: no {MANIFEST} in it, so it is not a bundle{advice}")
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text)
    except OSError as error:
        raise BundleError(f"encoder bundle {folder}: cannot read {MANIFEST}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"encoder bundle {folder}: {MANIFEST} is not JSON: {' '.join(str(error).split())}") from None
    _check_schema(folder, tree)
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"encoder bundle {folder}: {MANIFEST}: {_first(error)}") from None
    if manifest.schema_version > 1 and manifest.digest != manifest_digest(tree):
        raise DigestMismatch(
            f"encoder bundle {folder}: {MANIFEST} does not have the digest that it names; it was changed or damaged, "
            "copy the whole folder again, or make the bundle again with what you want it to say"
        )
    return manifest


def _check_schema(folder: Path, tree: object) -> None:
    """Say which version a manifest is before saying what is wrong with it."""
    version = tree.get("schema") if isinstance(tree, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise BundleError(f"encoder bundle {folder}: {MANIFEST} has no 'schema' number, so it is not of this kind")
    if version > SCHEMA:
        here = psm_stream.__version__
        needed = tree.get("requires") if isinstance(tree, dict) else None
        if isinstance(needed, str) and len(needed) <= 20 and _VERSION.fullmatch(needed):
            advice = f"psm-stream {needed} or newer; this is {here}: pip install -U 'psm-stream>={needed}'"
        else:
            advice = f"a newer psm-stream than {here}: pip install -U psm-stream"
        raise BundleError(f"encoder bundle {folder}: made for manifest schema {version}, which needs {advice}")


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "top level"
    return " ".join(f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}".split())  # keys may hold line ends
