"""Collecting the faces of one person to learn from: videos, folders of images, recorded sessions, snapshots and crop
stores, joined in the order in which they are given.

What is no snapshot and no store yet is looked at by the live path's own sources and aligner (`data.ingest`). Where
there are more faces than wanted, evenly spread ones are taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from psm_adapt.adaptation.snapshot import Rows, Snapshot, load_snapshot
from psm_adapt.data.columns import BLENDSHAPES
from psm_adapt.data.ingest import MOST_WORKERS, IngestOptions, Watcher, ingest
from psm_adapt.data.layouts import RecordingSource, sources_in
from psm_adapt.data.looking import extent
from psm_adapt.data.store import STORE, CropStore, Making, Recording, open_store
from psm_adapt.train.crops import layout_of
from psm_stream.cli.common import nearest
from psm_stream.errors import AdaptationError

Blendshapes: TypeAlias = NDArray[np.float32]
"""[n, 52] 0..1; NaN where there are none."""

_CHOICE = 2
"""Frames that are looked at for each face that is wanted, where a recording has so many: some show no face."""
_GAP_S = 10.0
"""Between two recordings, which have no common clock."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How much an input gave. name: for people. found: faces it has. taken: faces that are learned from."""

    name: str
    found: int
    taken: int


@dataclass(frozen=True, slots=True)
class Collected:
    """The faces of all inputs. blendshapes: of each face of the snapshot, or None where no input has any."""

    snapshot: Snapshot
    blendshapes: Blendshapes | None
    taken: tuple[Taken, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """One recording. read: gives some of its `count` faces, in order of time."""

    name: str
    count: int
    read: Callable[[Rows], tuple[Snapshot, Blendshapes]]


def collect(
    inputs: Sequence[Path],
    person: str,
    most: int,
    workspace: Path,
    *,
    landmarker: Path | None = None,
    watcher: Watcher | None = None,
) -> Collected:
    """Collect faces.

    Args:
        inputs: Videos, folders of images, sessions, snapshots (.npz), crop stores.
        person: Whose faces are taken of a store that shows several people.
        most: At most so many faces.
        workspace: An empty folder for crops on the way.
        landmarker: The Face Landmarker's model file, for blendshapes of videos and images.
        watcher: Is told how looking at videos and images goes.

    Raises AdaptationError, StoreError: an input does not exist, cannot be used, or shows nobody.
    """
    check_there(inputs)
    to_look_at = {number: place for number, place in enumerate(inputs) if not _is_ready(place)}
    looked_at = _look_at(to_look_at, person, most, workspace, landmarker=landmarker, watcher=watcher)
    parts: list[_Part] = []
    for number, place in enumerate(inputs):
        parts += looked_at[number] if number in looked_at else _ready(place, person)
    chosen = _spread([part.count for part in parts], most)
    read = [part.read(rows) for part, rows in zip(parts, chosen, strict=True) if len(rows)]
    snapshot = _joined([some for some, _ in read])
    blendshapes = np.concatenate([values for _, values in read])
    return Collected(
        snapshot,
        None if np.isnan(blendshapes).all() else blendshapes,
        tuple(Taken(part.name, part.count, len(rows)) for part, rows in zip(parts, chosen, strict=True)),
    )


def check_there(inputs: Sequence[Path]) -> None:
    """Raise AdaptationError, with the nearest name, when an input does not exist."""
    for place in inputs:
        if not place.exists():
            raise AdaptationError(f"there is no {place}{_near(place)}")


def _is_ready(place: Path) -> bool:
    return place.suffix.lower() == ".npz" or (place / STORE).is_file()


def _ready(place: Path, person: str) -> list[_Part]:
    if place.suffix.lower() == ".npz":
        return [_of_snapshot(place)]
    store = open_store(place)
    if person not in store.people and len(store.people) > 1:
        raise AdaptationError(
            f"crop store {place} shows {len(store.people)} people, none of them called {person!r}"
            f"{nearest(person, store.people)}"
        )
    whose = person if person in store.people else store.people[0]
    return [_of_recording(store, one, one.name) for one in store.recordings if one.person == whose]


def _look_at(
    places: Mapping[int, Path],
    person: str,
    most: int,
    workspace: Path,
    *,
    landmarker: Path | None,
    watcher: Watcher | None,
) -> dict[int, list[_Part]]:
    """Align what is not aligned yet. Of several inputs, recordings are named by the input's number, too, as two may be
    called alike; and so they come back in the order given.
    """
    if not places:
        return {}
    found = {number: sources_in([place], layout_of(place), person) for number, place in places.items()}
    if len(found) > 1:
        found = {
            number: [replace(source, name=f"input {number + 1}/{source.name}") for source in sources]
            for number, sources in found.items()
        }
    sources = [source for some in found.values() for source in some]
    every = max(1, _length(sources) // (_CHOICE * most))
    workers = min(MOST_WORKERS, os.cpu_count() or 1, len(sources))
    options = IngestOptions(every=every, landmarker=landmarker, workers=workers)
    store = ingest(sources, workspace / "crops", options, watcher).store
    there = {one.name: one for one in store.recordings}
    return {
        number: [_of_recording(store, there[source.name], source.name) for source in some if source.name in there]
        for number, some in found.items()
    }


def _length(sources: Sequence[RecordingSource]) -> int:
    """Frames in all, as far as that can be told; a recording that cannot be read says so when it is looked at."""
    frames = 0
    for source in sources:
        try:
            frames += extent(source, Making()).frames or 0
        except OSError:
            continue
    return frames


def _of_snapshot(path: Path) -> _Part:
    """Take the face that is there most often."""
    snapshot = load_snapshot(path)
    if not len(snapshot):
        raise AdaptationError(f"{path} holds no face")
    ids, counts = np.unique(snapshot.face_id, return_counts=True)
    mine = np.flatnonzero(snapshot.face_id == ids[counts.argmax()])

    def read(rows: Rows) -> tuple[Snapshot, Blendshapes]:
        return snapshot.only(mine[rows]), _without(len(rows))

    return _Part(path.name, len(mine), read)


def _of_recording(store: CropStore, recording: Recording, name: str) -> _Part:
    """Take a recording of a store. Its landmarks are px of the crop, so the crop is its own source."""
    start = recording.start
    if np.isnan(store.landmarks[start : start + recording.count]).any():
        raise AdaptationError(
            f"{recording.name} of crop store {store.folder} has no landmarks, by which faces are checked; "
            "give the videos or images themselves"
        )

    def read(rows: Rows) -> tuple[Snapshot, Blendshapes]:
        here = start + rows
        blendshapes = _without(len(rows)) if store.blendshapes is None else np.asarray(store.blendshapes[here])
        t = np.asarray(store.t[here])
        snapshot = Snapshot(
            crops=store.read(here),
            landmarks=np.asarray(store.landmarks[here]),
            frame_index=np.asarray(store.frame_index[here]),
            face_id=np.zeros(len(rows), np.int32),
            t_capture=t,
            t_source=t,
            confidence=np.asarray(store.confidence[here]),
            to_crop=np.tile(np.eye(2, 3, dtype=np.float32), (len(rows), 1, 1)),
        )
        return snapshot, blendshapes

    return _Part(name, recording.count, read)


def _without(count: int) -> Blendshapes:
    return np.full((count, BLENDSHAPES), np.nan, np.float32)


def _spread(counts: Sequence[int], most: int) -> list[Rows]:
    """Choose at most so many of all faces, evenly spaced. Returns the rows of each part."""
    total = sum(counts)
    chosen = np.linspace(0, total - 1, min(total, most)).round().astype(np.int64)
    starts = np.cumsum([0, *counts])
    return [chosen[(chosen >= a) & (chosen < b)] - a for a, b in pairwise(starts)]


def _joined(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Put recordings one after another, in frame numbers and in time. One alone stays as it is.

    Raises AdaptationError: their crops are not equally large.
    """
    if len(snapshots) == 1:
        return snapshots[0]
    sizes = sorted({snapshot.crops.shape[1] for snapshot in snapshots})
    if len(sizes) > 1:
        raise AdaptationError(f"crops of {sizes[0]} px and of {sizes[1]} px cannot be joined; leave one kind out")
    moved: list[Snapshot] = []
    frame, t = 0, 0.0
    for one in snapshots:
        frames = one.frame_index - one.frame_index[0] + frame
        times = one.t_capture - one.t_capture[0] + t
        frame, t = int(frames[-1]) + 1, float(times[-1]) + _GAP_S
        moved.append(replace(one, frame_index=frames, t_capture=times, face_id=np.zeros_like(one.face_id)))
    has_maps = all(one.to_crop is not None for one in moved)
    return Snapshot(
        crops=np.concatenate([one.crops for one in moved]),
        landmarks=np.concatenate([one.landmarks for one in moved]),
        frame_index=np.concatenate([one.frame_index for one in moved]),
        face_id=np.concatenate([one.face_id for one in moved]),
        t_capture=np.concatenate([one.t_capture for one in moved]),
        t_source=np.concatenate([one.t_source for one in moved]),
        confidence=np.concatenate([one.confidence for one in moved]),
        to_crop=np.concatenate([one.to_crop for one in moved if one.to_crop is not None]) if has_maps else None,
    )


def _near(place: Path) -> str:
    """Name the nearest thing in the same folder."""
    try:
        return nearest(place.name, [one.name for one in place.parent.iterdir()])
    except OSError:
        return ""
