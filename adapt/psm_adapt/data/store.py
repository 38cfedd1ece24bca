"""A crop store: aligned faces of many people as memory-mapped arrays, with a store.json that says where each is from.

    store.json        schema 1: who, which recordings, how they were made, the digest of each array
    crops.npy         uint8 [N, 128, 128, 3] RGB, the canonical crop of psm_stream.align.template
    t.npy             float64 [N], s: the frame's own time in its recording
    recording.npy     int32 [N], position in `recordings`
    segment.npy       int32 [N], from 0 in each recording: a new one begins where the face jumps or was long away
    frame_index.npy   int64 [N], number of the frame in its recording
    landmarks.npy     float32 [N, 478, 2], px of the crop; NaN where crops were taken as they are
    confidence.npy    float32 [N], 0..1; NaN where the aligner gives none
    blendshapes.npy   float32 [N, 52], 0..1, MediaPipe's order; NaN where none; only when they were asked for

Rows are ordered by recording, and by time within one. `open_store` is the way in.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psm_adapt.data.columns import COLUMNS, file_digest, map_column
from psm_stream.errors import StoreError

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
STORE = "store.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Recording(_Part):
    """One video, image folder or session of one person."""

    name: str = Field(min_length=1)
    person: str = Field(min_length=1)
    kind: Literal["video", "images", "session", "made"]
    """`made`: drawn by a program, without a file."""
    source: str = ""
    """Its file or folder, as it was given."""
    digest: str = ""
    """sha256, in hex, of the file, or of a folder's files by name."""
    aligner: str = ""
    """What aligned it: facemesh, landmarker, as-is."""
    start: int = Field(ge=0)
    """Its first row."""
    count: int = Field(ge=1)
    """How many rows it has: frames with a face."""
    looked_at: int = Field(ge=0)
    """How many frames were looked at for a face."""
    fps: float | None = Field(default=None, gt=0)
    """Nominal frames a second."""
    note: str = ""
    """What was not as it should be, such as a file that is cut off."""


class Making(_Part):
    """How the crops were made; two stores with the same one may be compared."""

    template: str = "eyes-level-1"
    """Name of the canonical crop; `as-is`: crops were taken as they are."""
    every: int = Field(default=1, ge=1)
    """Every how many frames of a recording were looked at."""
    frames: int | None = Field(default=None, ge=1)
    """At most how many frames of a recording were looked at."""
    landmarker: str | None = None
    """sha256 of the Face Landmarker model that gave the blendshapes; None: there are none but recorded ones."""


class Skipped(_Part):
    """A recording that is not in the store. was_read: False if it could not be read, True if it has no face."""

    name: str
    person: str
    reason: str
    was_read: bool


class StoreAbout(_Part):
    """What store.json holds."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    crop_px: Literal[128] = 128
    making: Making
    people: tuple[str, ...]
    """In order of first appearance."""
    recordings: tuple[Recording, ...] = Field(min_length=1)
    skipped: tuple[Skipped, ...] = ()
    arrays: Mapping[str, Sha256]
    """sha256 of each array's file."""

    @property
    def count(self) -> int:
        """How many rows the store has."""
        return sum(recording.count for recording in self.recordings)


class CropStore:
    """An open store. Arrays are memory maps and read-only; what is read of them is what memory is used for.

    It may be sent to another process, which opens it again.
    """

    def __init__(self, folder: Path, about: StoreAbout, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.folder = folder
        self.about = about
        self.recordings = about.recordings
        self.people = about.people
        self.crops: NDArray[np.uint8] = arrays["crops"]
        self.t: NDArray[np.float64] = arrays["t"]
        self.recording: NDArray[np.int32] = arrays["recording"]
        self.segment: NDArray[np.int32] = arrays["segment"]
        self.frame_index: NDArray[np.int64] = arrays["frame_index"]
        self.landmarks: NDArray[np.float32] = arrays["landmarks"]
        self.confidence: NDArray[np.float32] = arrays["confidence"]
        self.blendshapes: NDArray[np.float32] | None = arrays.get("blendshapes")

    def __len__(self) -> int:
        return len(self.t)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.folder,)

    @property
    def store_id(self) -> str:
        """First 12 hex digits of the sha256 over the arrays' digests: equal for equal content."""
        digests = "".join(f"{name} {digest}\n" for name, digest in sorted(self.about.arrays.items()))
        return hashlib.sha256(digests.encode()).hexdigest()[:12]

    @cached_property
    def person(self) -> NDArray[np.int32]:
        """[N]: position in `people`, for each row."""
        number = {person: n for n, person in enumerate(self.people)}
        of_recording = [number[recording.person] for recording in self.recordings]
        return np.array(of_recording, np.int32)[self.recording]

    def person_of(self, row: int) -> str:
        """Return whose face a row shows."""
        return self.recordings[int(self.recording[row])].person

    def rows(
        self, people: Collection[str] | None = None, recordings: Collection[str] | None = None
    ) -> NDArray[np.int64]:
        """Return the rows of these people and of these recordings, in order; None is all.

        Raises StoreError: a name is none of the store's.
        """
        self._check_known("person", people, self.people)
        self._check_known("recording", recordings, [recording.name for recording in self.recordings])
        wanted = [
            (people is None or recording.person in people) and (recordings is None or recording.name in recordings)
            for recording in self.recordings
        ]
        return np.flatnonzero(np.array(wanted)[self.recording])

    def read(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """Copy the crops of some rows, in their order. Returns uint8 [n, 128, 128, 3] RGB."""
        return np.asarray(self.crops[np.asarray(rows, np.int64)])

    def images(self, rows: ArrayLike) -> Tensor:
        """Copy the crops of some rows, in their order. Returns a uint8 tensor [n, 128, 128, 3] RGB."""
        import torch  # who only reads arrays needs no torch

        return torch.from_numpy(self.read(rows))

    def check_digests(self) -> None:
        """Read every array whole. Raises StoreError: one is not what was written."""
        for name, digest in self.about.arrays.items():
            if file_digest(COLUMNS[name].file(self.folder)) != digest:
                raise _damaged(self.folder, f"{name}.npy has another digest than {STORE} says")

    def _check_known(self, kind: str, names: Collection[str] | None, known: Collection[str]) -> None:
        unknown = sorted(set(names or ()) - set(known))
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.4) or sorted(known)[:8]
            raise StoreError(f"crop store {self.folder} has no {kind} {unknown[0]!r}; there is {', '.join(near)}")


def open_store(folder: Path) -> CropStore:
    """Open a crop store, and check that its arrays and its store.json fit each other.

    Raises StoreError: it is missing, unfinished, damaged, or of a newer schema.
    """
    about = _read_about(folder)
    arrays = {name: _map(folder, name, about.count) for name in COLUMNS if name in about.arrays}
    _check_rows(folder, about, arrays)
    return CropStore(folder, about, arrays)


def _read_about(folder: Path) -> StoreAbout:
    try:
        tree = json.loads((folder / STORE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{folder} is not a crop store: {_what_is_missing(folder)}") from None
    except OSError as error:
        raise StoreError(f"cannot read {folder / STORE}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, f"{STORE} is no JSON ({' '.join(str(error).split())})") from None
    schema = tree.get("schema") if isinstance(tree, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise StoreError(f"crop store {folder} has schema {schema}, this psm-adapt reads {SCHEMA}; install a newer one")
    try:
        about = StoreAbout.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise _damaged(folder, f"{STORE}: {where}: {first['msg']}") from None
    _check_about(folder, about)
    return about


def _what_is_missing(folder: Path) -> str:
    if not folder.exists():
        return "the folder does not exist; make one with psm-adapt crops INPUT --out STORE"
    if (folder / "parts").is_dir():
        return "psm-adapt crops did not finish it; give the same command again and it goes on where it was"
    return f"it has no {STORE}; make one with psm-adapt crops INPUT --out STORE"


def _check_about(folder: Path, about: StoreAbout) -> None:
    starts = np.cumsum([0] + [recording.count for recording in about.recordings])[:-1]
    if [recording.start for recording in about.recordings] != starts.tolist():
        raise _damaged(folder, f"the recordings of {STORE} do not follow each other")
    if about.people != tuple(dict.fromkeys(recording.person for recording in about.recordings)):
        raise _damaged(folder, f"the people of {STORE} are not those of its recordings")
    if len({recording.name for recording in about.recordings}) != len(about.recordings):
        raise _damaged(folder, f"two recordings of {STORE} have one name")
    needed = {column.name for column in COLUMNS.values() if not column.is_optional}
    for name in sorted(about.arrays.keys() ^ (needed | (about.arrays.keys() & COLUMNS.keys()))):
        raise _damaged(folder, f"{STORE} {'names an unknown' if name in about.arrays else 'lacks the'} array {name}")


def _map(folder: Path, name: str, count: int) -> NDArray[Any]:
    try:
        return map_column(COLUMNS[name], folder, count)
    except (OSError, ValueError, EOFError) as error:
        text = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        raise _damaged(folder, f"{name}.npy: {text}") from None


def _check_rows(folder: Path, about: StoreAbout, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check the small arrays; the large ones are read only when asked for (`CropStore.check_digests`)."""
    counts = [recording.count for recording in about.recordings]
    if not np.array_equal(arrays["recording"], np.repeat(np.arange(len(counts)), counts)):
        raise _damaged(folder, f"recording.npy does not order the rows as {STORE} says")
    within = np.diff(arrays["recording"]) == 0
    if not (np.diff(arrays["t"])[within] >= 0).all() or (np.diff(arrays["segment"])[within] < 0).any():
        raise _damaged(folder, "t.npy or segment.npy goes back within a recording")


def _damaged(folder: Path, what: str) -> StoreError:
    return StoreError(f"crop store {folder} is damaged: {what}; make it again with psm-adapt crops")
