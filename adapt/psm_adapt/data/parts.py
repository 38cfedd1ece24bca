"""Parts: what each recording gave, kept on disk until all are there and become a store.

    <store>/parts/<key>/          a finished recording: part.json, and its columns as raw bytes
    <store>/parts/<key>.half/     one that is being looked at; what a cut-off run leaves of it is thrown away

The key is made of the recording's name and of how it is looked at, so that a run finds what the one before it did.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from psm_adapt.data.columns import COLUMNS, file_digest
from psm_adapt.data.layouts import RecordingSource
from psm_adapt.data.store import CropStore, Making
from psm_adapt.data.writer import RecordedCrops
from psm_stream.record.session import LOG
from psm_stream.sources.images import image_files

PARTS = "parts"

_ABOUT = "part.json"
_HALF = ".half"
_ROWS_AT_ONCE = 512
_WRITTEN = [name for name in COLUMNS if name != "recording"]


class PartAbout(BaseModel):
    """What part.json says; see `psm_adapt.data.store.Recording` for what is not explained here."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    name: str
    person: str
    kind: Literal["video", "images", "session", "made"]
    source: str
    stamp: tuple[int, ...]
    """Sizes and times of change of the source's files; () if that is not known."""
    digest: str
    aligner: str
    making: Making
    looked_at: int
    fps: float | None
    note: str
    count: int
    """0: no face was found."""
    columns: tuple[str, ...]


class PartWriter:
    """Writes one part row by row. What is not finished is gone."""

    def __init__(self, store: Path, name: str, making: Making) -> None:
        self.count = 0
        self._target = _folder(store, name, making)
        self._half = self._target.with_name(self._target.name + _HALF)
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> PartWriter:
        shutil.rmtree(self._half, ignore_errors=True)
        self._half.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()
        shutil.rmtree(self._half, ignore_errors=True)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that have been written."""
        return tuple(self._files)

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Append rows: [n, ...] of each column; what a column lacks, before or now, becomes NaN. Raises OSError."""
        count = len(arrays["crops"])
        for name in self._files.keys() | arrays.keys():
            if name not in self._files:
                self._files[name] = self._stack.enter_context((self._half / name).open("wb"))
                self._append(name, COLUMNS[name].empty(self.count))
            self._append(name, arrays[name] if name in arrays else COLUMNS[name].empty(count))
        self.count += count

    def finish(self, about: PartAbout) -> None:
        """Make it a part that the next run finds. Raises OSError."""
        self._stack.close()
        (self._half / _ABOUT).write_text(about.model_dump_json(), encoding="utf-8")
        shutil.rmtree(self._target, ignore_errors=True)
        self._half.rename(self._target)

    def _append(self, name: str, rows: NDArray[Any]) -> None:
        self._files[name].write(np.ascontiguousarray(rows, COLUMNS[name].dtype).tobytes())


def find_part(store: Path, name: str, making: Making) -> PartAbout | None:
    """Return what a finished part says, or None where there is none."""
    return _read(_folder(store, name, making))


def open_parts(store: Path, making: Making) -> list[RecordedCrops]:
    """Return every finished part that was made so, its columns as memory maps. Those without a face have no rows."""
    parts = store / PARTS
    found = [(folder, _read(folder)) for folder in sorted(parts.iterdir())] if parts.is_dir() else []
    return [_opened(folder, about) for folder, about in found if about is not None and about.making == making]


def unpack(store: CropStore) -> None:
    """Make a part of each recording of a store that has none, so that others can be added. Raises OSError."""
    for recording in store.recordings:
        if find_part(store.folder, recording.name, store.about.making) is not None:
            continue
        with PartWriter(store.folder, recording.name, store.about.making) as part:
            for start in range(recording.start, recording.start + recording.count, _ROWS_AT_ONCE):
                rows = slice(start, min(start + _ROWS_AT_ONCE, recording.start + recording.count))
                columns = {name: getattr(store, name) for name in _WRITTEN}
                part.add({name: column[rows] for name, column in columns.items() if column is not None})
            about = recording.model_dump(exclude={"start"})
            part.finish(PartAbout(**about, stamp=(), making=store.about.making, columns=part.columns))


def remove_parts(store: Path) -> None:
    """Throw the parts away, once the store is written."""
    shutil.rmtree(store / PARTS, ignore_errors=True)


def stamp_of(source: RecordingSource) -> tuple[int, ...]:
    """Return sizes and times of change of a recording's files: what tells quickly whether it changed. Raises OSError.

    Of a folder: the number of files, their sizes together, the last change.
    """
    stats = [file.stat() for file in _files(source)]
    return len(stats), sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


def digest_of(source: RecordingSource) -> str:
    """Return the sha256, in hex, of a recording's file, or of the names and digests of its images. Raises OSError."""
    if source.kind != "images":
        return file_digest(_files(source)[0])
    lines = "".join(f"{file.name} {file_digest(file)}\n" for file in _files(source))
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()


def _files(source: RecordingSource) -> list[Path]:
    if source.kind == "images":
        return image_files(source.path)
    return [source.path / LOG if source.kind == "session" else source.path]


def _folder(store: Path, name: str, making: Making) -> Path:
    key = hashlib.sha256(f"{name}\n{making.model_dump_json()}".encode()).hexdigest()
    return store / PARTS / key[:20]


def _read(folder: Path) -> PartAbout | None:
    try:
        return PartAbout.model_validate_json((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValidationError, ValueError):
        return None  # not finished, or of another version: it is made again


class _Columns(Mapping[str, NDArray[Any]]):
    """The columns of a part, each mapped when it is asked for: a system allows 65,530 maps, and VoxCeleb has more."""

    def __init__(self, folder: Path, about: PartAbout) -> None:
        self._folder = folder
        self._about = about

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._about.columns:
            raise KeyError(name)
        column = COLUMNS[name]
        return np.memmap(self._folder / name, column.dtype, "r", shape=(self._about.count, *column.shape))

    def __iter__(self) -> Iterator[str]:
        return iter(self._about.columns)

    def __len__(self) -> int:
        return len(self._about.columns)


def _opened(folder: Path, about: PartAbout) -> RecordedCrops:
    nothing = {"crops": COLUMNS["crops"].empty(0)}
    return RecordedCrops(
        name=about.name,
        person=about.person,
        arrays=_Columns(folder, about) if about.count else nothing,
        kind=about.kind,
        source=about.source,
        digest=about.digest,
        aligner=about.aligner,
        looked_at=about.looked_at,
        fps=about.fps,
        note=about.note,
    )
