"""Settings: one frozen tree, filled from defaults, a YAML file and dotted flags, in that order.

`load(file, overrides)` is the only way in; `psm_stream.sections` says how values are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from psm_stream import sections
from psm_stream.redact import name_of, printable
from psm_stream.sections import Section

Port = Annotated[int, Field(ge=1, le=65532)]


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What a person's name looks like; not all that do are allowed (`wrong_name`)."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that mean a device on Windows, with any ending."""


def wrong_name(person: str) -> str:
    """Say why nobody can be called so; nothing when somebody can."""
    if NAME.fullmatch(person) and not person.endswith(".") and not _RESERVED.fullmatch(person):
        return ""
    return (
        f"a person cannot be called {printable(person)!r}; use letters, digits, '.', '_' and '-', 64 at most, begin "
        "with a letter or digit, do not end in '.', and take no name that Windows reserves (con, nul, com1, ...)"
    )


class SourceSettings(Section):
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


class AlignerSettings(Section):
    """How a face is found and warped."""

    name: Literal["facemesh", "landmarker"] = "facemesh"
    model: Path | None = None
    """Face Landmarker .task file; setting it chooses `landmarker`."""
    size_px: int | None = Field(default=None, ge=8, le=1024)
    """Side of the crop, px; None is as large as the encoder's bundle wants it."""
    max_faces: int = Field(default=1, ge=1, le=10)
    min_confidence: float = Field(default=0.5, ge=0.5, le=1)
    """Presence score below which a face is not one; the network itself refuses those below 0.5."""


class EncoderSettings(Section):
    """Which encoder runs, and where."""

    model: Path | None = None
    """Bundle folder; None is the general encoder that ships in the package."""
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    threads: int = Field(default=1, ge=1, le=64)
    """CPU threads inside one inference."""


class FacesSettings(Section):
    """The ring of recent faces that a person-specific model is trained on."""

    capacity: int = Field(default=500, ge=1, le=100_000)
    min_confidence: float = Field(default=0.8, ge=0, le=1)
    min_change: float = Field(default=0.5, ge=0)
    """Mean absolute difference to the last kept crop, in grey levels of 255, under which a frame is a repeat."""


class WireSettings(Section):
    """Sockets."""

    bind: str = "127.0.0.1"
    control_port: Port | Literal["auto"] = 50120
    """The publisher is at +1, `latest` at +2, markers at +3."""
    header: Literal["msgpack", "json"] = "msgpack"


class RecordSettings(Section):
    """Recording."""

    root: Path | None = None
    """Folder under which sessions are made; None records nothing until `R` asks (then ./sessions)."""
    video: Literal["off", "h264", "lossless"] = "off"
    min_free_gb: float = Field(default=1.0, ge=0)


class AdaptationSettings(Section):
    """When a model of the person is made beside the stream, and how."""

    recipe: str = Field(default="auto", min_length=1)
    """auto (by device), the name of a recipe in configs/adapt/, or a YAML file."""
    every_s: float = Field(default=600.0, gt=0)
    """Adapt again so long after the last start."""
    drift: float = Field(default=0.6, gt=0)
    """Adapt again when the mean embedding has moved by so many times its spread."""
    min_new_faces: int = Field(default=250, ge=1)
    """Faces that must have come since the last start before another; a failure is tried again without."""
    silence_s: float = Field(default=60.0, gt=0)
    """A worker that says nothing for so long is killed."""
    budget_s: float | None = Field(default=None, gt=0)
    """Training ends after so long, and the best epoch so far is taken; None is as the recipe says."""
    backoff_s: float = Field(default=60.0, gt=0)
    """First wait after a failure or rejection; doubles up to backoff_max_s."""
    backoff_max_s: float = Field(default=1800.0, gt=0)
    """Longest wait between two tries."""
    memory_mb: int | None = Field(default=None, gt=0)
    """The worker may take so much memory; None leaves the choice to it."""
    seed: int = Field(default=0, ge=0)
    """Of everything random in the training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it trains."""


FITTED = ("hdbscan", "dbscan")
"""Clusters that are found in the stream's own faces."""


class ClustersSettings(Section):
    """What embeddings are sorted into, while the stream runs."""

    method: Literal["hdbscan", "dbscan", "vocabulary", "off"] = "hdbscan"
    """Clusters found in this stream's faces by HDBSCAN or DBSCAN, the tokens of a vocabulary, or nothing."""
    capacity: int = Field(default=1000, ge=50, le=10_000)
    """Faces that a clustering is fitted on; half of them recent, half kept so that rare expressions stay known."""
    rate_hz: float = Field(default=5.0, gt=0)
    """So many faces a second are offered to it, once there are clusters; before, every face."""
    first_faces: int = Field(default=300, ge=20, validate_default=True)
    """The first clusters are made of so many faces: capacity at most, which the default is lowered to."""
    every_s: float = Field(default=30.0, gt=0)
    """Clusters are fitted again so long after the last fit."""
    min_new_faces: int = Field(default=100, ge=1)
    """Faces that must have come since the last fit."""
    dimensions: int = Field(default=16, ge=0)
    """Principal components that are kept; 0 keeps everything."""
    min_cluster_size: int = Field(default=20, ge=2)
    """hdbscan: fewer faces are no cluster."""
    min_samples: int = Field(default=5, ge=1)
    """hdbscan and dbscan: neighbours that make a place dense."""
    eps: float = Field(default=0.6, gt=0)
    """dbscan: how near neighbours are, in the units of the vectors."""
    vocabulary: Path | None = None
    """vocabulary: a file that `psm-adapt vocabulary fit` wrote."""
    keep: bool = True
    """With a person: keep some faces of each cluster for their next session, and begin with those of the last."""
    seed: int = Field(default=0, ge=0)
    """Which faces stay in the reservoir."""

    @field_validator("first_faces")
    @classmethod
    def _can_be_held(cls, first_faces: int, about: ValidationInfo) -> int:
        capacity: int = about.data.get("capacity", first_faces)
        if first_faces > capacity and first_faces != cls.model_fields["first_faces"].default:
            raise PydanticCustomError(
                "first_faces", "expected clusters.capacity at most, which is {capacity}", {"capacity": capacity}
            )
        return min(first_faces, capacity)

    @field_validator("vocabulary")
    @classmethod
    def _is_used(cls, vocabulary: Path | None, about: ValidationInfo) -> Path | None:
        method = about.data.get("method")
        if vocabulary is not None and method in FITTED:
            raise PydanticCustomError(
                "vocabulary",
                "clusters.method is {method}, which takes none; set clusters.method to vocabulary, or leave this away",
                {"method": method},
            )
        return vocabulary


class Settings(Section):
    """Everything that shapes a run."""

    source: SourceSettings = SourceSettings()
    aligner: AlignerSettings = AlignerSettings()
    encoder: EncoderSettings = EncoderSettings()
    faces: FacesSettings = FacesSettings()
    wire: WireSettings = WireSettings()
    record: RecordSettings = RecordSettings()
    person: str = ""
    """Whose models run and are kept; nobody's when empty."""
    adapt: Literal["auto", "manual", "off"] | None = None
    """None: auto where training can run and the source keeps its own time, else off; the start says which and why."""
    adaptation: AdaptationSettings = AdaptationSettings()
    clusters: ClustersSettings = ClustersSettings()
    frames: int | None = Field(default=None, gt=0)
    """Stop after so many captured frames."""
    duration_s: float | None = Field(default=None, gt=0)
    """Stop after so many seconds."""

    @field_validator("person")
    @classmethod
    def _can_be_called_so(cls, person: str) -> str:
        trouble = wrong_name(person) if person else ""
        if trouble:
            raise PydanticCustomError("name", "{trouble}", {"trouble": trouble})
        return person


def load(file: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """Build the settings. overrides: {"source.pace": "fast", ...}; text is read as the kind that the setting has.

    Raises ConfigError: the file is missing or not YAML, or a key or value is wrong; it names the nearest right key.
    """
    return sections.build(Settings, sections.read_yaml(file, "source") if file is not None else {}, overrides)


def public(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values that may be stored and published: printable, and without credentials."""
    tree: dict[str, Any] = _plain(settings.model_dump())
    tree["source"] |= {key: name_of(tree["source"][key]) for key in ("rtsp", "path")}
    return tree


def dotted_keys() -> list[str]:
    """Every dotted key that can be set, in order."""
    return sections.keys_of(Settings)


def _plain(value: Any) -> Any:
    """Paths become text, and what UTF-8 cannot hold is escaped."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return printable(str(value)) if isinstance(value, str | Path) else value
