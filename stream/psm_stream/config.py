"""Settings: one frozen tree, filled from defaults, a YAML file and dotted flags, in that order.

`load(file, overrides)` is the only way in. An unknown key is an error that names the nearest right one. Text is read as
the kind of value that its setting has ("20" as a number), in a file as in a flag; `none` unsets a setting whose default
that is. Nothing else is converted: true is not a number, 1 not true, 2.0 not a whole number.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from psm_stream.errors import ConfigError
from psm_stream.sources.redact import name_of, printable, redact

Port = Annotated[int, Field(ge=1, le=65532)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, about: ValidationInfo) -> Any:
        """Read what YAML and flags write in another way, and refuse what pydantic would convert."""
        kinds = _kinds(cls.model_fields[str(about.field_name)].annotation)
        if value is None and any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
            return {}  # a section with only comments in it
        if value == "none" and NoneType in kinds:
            return None
        if value is False and "off" in kinds:
            return "off"  # to YAML they are the same
        if isinstance(value, bool) and bool not in kinds and {int, float} & kinds:
            raise PydanticCustomError("bool_for_number", "input should be a number")
        if isinstance(value, float) and int in kinds:
            raise PydanticCustomError("float_for_int", "input should be a whole number")
        if isinstance(value, int | float) and not isinstance(value, bool) and bool in kinds:
            raise PydanticCustomError("number_for_bool", "input should be true or false")
        return value


class SourceSettings(_Section):
    """Where frames come from."""

    kind: Literal["camera", "rtsp", "file", "images", "demo"] = "demo"
    camera: int = Field(default=0, ge=0)
    """Device number of the camera."""
    rtsp: str = ""
    """rtsp:// address, credentials included; they are redacted wherever it is shown."""
    path: str = ""
    """Video file or folder of images."""
    pace: Literal["live", "fast"] = "live"
    """Files and the demo: `live` keeps their own timing and drops like a camera, `fast` takes every frame."""
    width: int | None = Field(default=None, gt=0)
    """px; None leaves the device's default."""
    height: int | None = Field(default=None, gt=0)
    """px; None leaves the device's default."""
    fps: float | None = Field(default=None, gt=0)
    """Frames a second to ask the camera for, or the rate of an image folder and of the demo (30)."""
    backend: Literal["auto", "v4l2", "gstreamer", "dshow", "msmf", "avfoundation"] = "auto"
    """OpenCV's capture backend."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP media travels."""
    stall_s: float = Field(default=2.0, gt=0)
    """A camera or stream without a frame for so long is lost."""
    retry_s: float = Field(default=0.25, gt=0)
    """First wait before a lost source is tried again; doubles up to retry_max_s."""
    retry_max_s: float = Field(default=1.0, gt=0)
    """Longest wait between two tries."""
    seed: int = Field(default=0, ge=0)
    """Script of the demo."""
    loop: bool = False
    """Start a file again at its end."""


class AlignerSettings(_Section):
    """How a face is found and warped."""

    name: Literal["facemesh", "landmarker"] = "facemesh"
    model: Path | None = None
    """Face Landmarker .task file; setting it chooses `landmarker`."""
    size_px: int = Field(default=128, ge=32, le=512)
    """Side of the crop."""
    max_faces: int = Field(default=1, ge=1, le=10)
    min_confidence: float = Field(default=0.5, ge=0.5, le=1)
    """Presence score below which a face is not one; the network itself refuses those below 0.5."""


class EncoderSettings(_Section):
    """Which encoder runs, and where."""

    model: Path | None = None
    """Bundle folder; None is the general encoder that ships in the package."""
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    threads: int = Field(default=1, ge=1, le=64)
    """CPU threads inside one inference."""


class FacesSettings(_Section):
    """The ring of recent faces that a person-specific model is trained on."""

    capacity: int = Field(default=500, ge=1, le=100_000)
    min_confidence: float = Field(default=0.8, ge=0, le=1)
    min_change: float = Field(default=0.5, ge=0)
    """Mean absolute difference to the last kept crop, in grey levels of 255, under which a frame is a repeat."""


class WireSettings(_Section):
    """Sockets."""

    bind: str = "127.0.0.1"
    control_port: Port | Literal["auto"] = 50120
    """The publisher is at +1, `latest` at +2, markers at +3."""
    header: Literal["msgpack", "json"] = "msgpack"


class RecordSettings(_Section):
    """Recording."""

    root: Path | None = None
    """Folder under which sessions are made; None records nothing until `R` asks (then ./sessions)."""
    video: Literal["off", "h264", "lossless"] = "off"
    min_free_gb: float = Field(default=1.0, ge=0)


class Settings(_Section):
    """Everything that shapes a run."""

    source: SourceSettings = SourceSettings()
    aligner: AlignerSettings = AlignerSettings()
    encoder: EncoderSettings = EncoderSettings()
    faces: FacesSettings = FacesSettings()
    wire: WireSettings = WireSettings()
    record: RecordSettings = RecordSettings()
    person: str = Field(default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$|^$")
    adapt: Literal["auto", "manual", "off"] = "off"
    frames: int | None = Field(default=None, gt=0)
    """Stop after so many captured frames."""
    duration_s: float | None = Field(default=None, gt=0)
    """Stop after so many seconds."""


def load(file: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """Build the settings. overrides: {"source.pace": "fast", ...}; text is read as the kind that the setting has.

    Raises ConfigError: the file is missing or not YAML, or a key or value is wrong; it names the nearest right key.
    """
    tree = _read_yaml(file) if file is not None else {}
    for key, value in overrides.items():
        _set_dotted(tree, key, value)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from None


def public(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values that may be stored and published: printable, and without credentials."""
    tree: dict[str, Any] = _plain(settings.model_dump())
    tree["source"] |= {key: name_of(tree["source"][key]) for key in ("rtsp", "path")}
    return tree


def dotted_keys(section: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Every dotted key that can be set, in order."""
    found: list[str] = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += dotted_keys(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _kinds(annotation: Any) -> set[Any]:
    """Return the types that a setting may have, and the words it may be."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    return set(get_args(annotation)) if origin is Literal else {annotation}


def _plain(value: Any) -> Any:
    """Paths become text, and what UTF-8 cannot hold is escaped."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return printable(str(value)) if isinstance(value, str | Path) else value


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {file}: {error.strerror or error}; give an existing YAML file") from None
    except RecursionError:
        raise ConfigError(f"config file {file} is nested too deeply; settings have two levels") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date or number that cannot be
        raise ConfigError(f"config file {file} is not YAML: {_reason(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config file {file} must hold keys such as 'source:', not {type(tree).__name__}")
    return tree


def _reason(error: Exception) -> str:
    """What is wrong and where, without the lines of the file that YAML's own text quotes: they may hold a password."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return redact(" ".join(str(error).split()))
    problem = " ".join(str(getattr(error, "problem", None) or "it cannot be read").split())
    return redact(f"{problem}, in line {mark.line + 1}, column {mark.column + 1}")


def _set_dotted(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        if tree.get(parent) is None:
            tree[parent] = {}
        below = tree[parent]
        if not isinstance(below, dict):
            raise ConfigError(f"config key {parent!r} must be a section, not {_shown(below)}")
        tree = below
    tree[leaf] = value


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    known = dotted_keys()
    # pydantic adds the name of the union's branch to the location; keep what is a real key
    where = next(
        (".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), ".".join(parts)
    )
    if first["type"] == "extra_forbidden":
        depth = where.count(".")
        here = sorted({".".join(key.split(".")[: depth + 1]) for key in known})  # a wrong section is not a wrong leaf
        close = difflib.get_close_matches(where, here, n=1, cutoff=0.4)
        return f"unknown config key {redact(where, where)!r}" + (
            f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(here)}"
        )
    if first["type"] == "model_type":
        return f"config key {where!r} must be a section, not {_shown(first['input'])}"
    return f"config key {redact(where)!r}: {first['msg'][0].lower()}{first['msg'][1:]}, got {_shown(first['input'])}"


def _shown(value: Any) -> str:
    """Return a wrong value as it may be shown: without credentials, and of a list or section only what it is."""
    if isinstance(value, dict | list | set | tuple):
        return "a section" if isinstance(value, dict) else "a list"
    return repr(redact(value, value)) if isinstance(value, str) else redact(repr(value))
