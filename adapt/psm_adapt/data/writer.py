"""Writing a crop store: arrays first, store.json last, so that a store is whole or is none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.columns import COLUMNS, Column, write_column
from psm_adapt.data.store import STORE, CropStore, Making, Recording, Skipped, StoreAbout, open_store
from psm_stream.errors import StoreError

_DRAFT = "writing"


@dataclass(frozen=True, slots=True)
class RecordedCrops:
    """One recording for the writer.

    arrays: by column name, [n, ...] each; `crops` must be there. What is missing becomes: t at `fps` (25 unless
    known), one segment, frame_index from 0, NaN for the rest. Memory maps are copied piece by piece.
    looked_at: how many frames were looked at; None is as many as there are crops.
    """

    name: str
    person: str
    arrays: Mapping[str, NDArray[Any]]
    kind: Literal["video", "images", "session", "made"] = "made"
    source: str = ""
    digest: str = ""
    aligner: str = ""
    looked_at: int | None = None
    fps: float | None = None
    note: str = ""

    @property
    def count(self) -> int:
        """How many crops it has."""
        return len(self.arrays["crops"])


def write_store(
    folder: Path,
    recordings: Sequence[RecordedCrops],
    making: Making | None = None,
    skipped: Sequence[Skipped] = (),
) -> CropStore:
    """Write a store with these recordings, in this order, in the place of one that is there. Returns it, open.

    Raises StoreError: there is no crop at all, two recordings have one name, or the folder cannot be written.
    """
    kept = [recording for recording in recordings if recording.count]
    if not kept:
        raise StoreError(f"no crop to write into {folder}: none of {len(recordings)} recordings has a face")
    try:
        _write(folder, kept, making or Making(), tuple(skipped))
    except OSError as error:
        raise StoreError(
            f"cannot write crop store {folder}: {error.strerror or error}; make room or name another folder"
        ) from None
    return open_store(folder)


def _write(folder: Path, recordings: Sequence[RecordedCrops], making: Making, skipped: tuple[Skipped, ...]) -> None:
    draft = folder / _DRAFT
    draft.mkdir(parents=True, exist_ok=True)
    count = sum(recording.count for recording in recordings)
    digests = {}
    for column in COLUMNS.values():
        if column.is_optional and not any(column.name in recording.arrays for recording in recordings):
            continue
        pieces = (_piece(column, n, recording) for n, recording in enumerate(recordings))
        digests[column.name] = write_column(column, draft, count, pieces)
    about = StoreAbout(
        making=making,
        people=tuple(dict.fromkeys(recording.person for recording in recordings)),
        recordings=tuple(_entries(recordings)),
        skipped=skipped,
        arrays=digests,
    )
    _replace(folder, draft, about)


def _piece(column: Column, number: int, recording: RecordedCrops) -> NDArray[Any]:
    if column.name == "recording":
        return np.full(recording.count, number, column.dtype)
    given = recording.arrays.get(column.name)
    if given is not None:
        if given.shape != (recording.count, *column.shape):
            raise ValueError(f"{column.name} of {recording.name} is {given.shape}, not [{recording.count}, ...]")
        return given
    if column.name == "t":
        return np.arange(recording.count) / (recording.fps or 25.0)
    if column.name == "frame_index":
        return np.arange(recording.count)
    return column.empty(recording.count)


def _entries(recordings: Sequence[RecordedCrops]) -> list[Recording]:
    starts = np.cumsum([0] + [recording.count for recording in recordings]).tolist()
    return [
        Recording(
            name=recording.name,
            person=recording.person,
            kind=recording.kind,
            source=recording.source,
            digest=recording.digest,
            aligner=recording.aligner,
            start=start,
            count=recording.count,
            looked_at=recording.count if recording.looked_at is None else recording.looked_at,
            fps=recording.fps,
            note=recording.note,
        )
        for recording, start in zip(recordings, starts, strict=False)
    ]


def _replace(folder: Path, draft: Path, about: StoreAbout) -> None:
    """Move what was written into its place; while that goes on there is no store.json, and so no store."""
    with (draft / STORE).open("w", encoding="utf-8") as file:
        file.write(json.dumps(about.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    (folder / STORE).unlink(missing_ok=True)
    for column in COLUMNS.values():
        column.file(folder).unlink(missing_ok=True)
    for name in about.arrays:
        COLUMNS[name].file(draft).replace(COLUMNS[name].file(folder))
    (draft / STORE).replace(folder / STORE)
    draft.rmdir()
