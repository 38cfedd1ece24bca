"""Making a crop store of recordings: found, looked at in parallel, gone on with after a cut, put together.

Each recording becomes a part of its own (`parts`), and at the end all parts become the store, in order of person and
name, so that its bytes are the same whatever the number of processes and runs. A store that is there is added to.
One run at a time may write a store.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from psm_adapt.data.columns import file_digest
from psm_adapt.data.gather import Outcome, Task, gather, no_face
from psm_adapt.data.layouts import RecordingSource, reading_order
from psm_adapt.data.looking import AS_IS, Look
from psm_adapt.data.parts import digest_of, find_part, open_parts, remove_parts, stamp_of, unpack
from psm_adapt.data.pool import Died, work_through
from psm_adapt.data.store import STORE, CropStore, Making, Recording, Skipped, StoreAbout, open_store
from psm_adapt.data.writer import write_store
from psm_stream.align import template
from psm_stream.errors import StoreError
from psm_stream.redact import printable

MOST_WORKERS = 8
"""Chosen at most without being asked for: each takes about 300 MB."""


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How recordings are looked at.

    every: look at every so many frames. frames: at most so many of a recording. landmarker: the Face Landmarker's model
    file, for blendshapes. is_as_is: images are face crops already, and are taken as they are. workers: processes; None
    is one for each core, at most MOST_WORKERS.
    """

    every: int = 1
    frames: int | None = None
    landmarker: Path | None = None
    is_as_is: bool = False
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a run did. kept: how many recordings were there already. outcomes: of those that were looked at."""

    store: CropStore
    kept: int
    outcomes: tuple[tuple[RecordingSource, Outcome], ...]
    seconds: float


class Watcher(Protocol):
    """Whom the run tells how it goes."""

    def begin(self, sources: Sequence[RecordingSource], kept: int) -> None:
        """Called once: what will be looked at, and how many recordings need not be."""

    def progress(self, source: RecordingSource, looked_at: int, expected: int | None) -> None:
        """Called now and then: how many frames of a recording were looked at, of how many (None: unknown)."""

    def finish(self, source: RecordingSource, outcome: Outcome) -> None:
        """Called for each recording that was looked at, when it is done."""

    def write(self) -> None:
        """Called once: the store is now put together."""


class NoWatcher:
    """Watches nothing."""

    def begin(self, sources: Sequence[RecordingSource], kept: int) -> None:
        """Do nothing."""

    def progress(self, source: RecordingSource, looked_at: int, expected: int | None) -> None:
        """Do nothing."""

    def finish(self, source: RecordingSource, outcome: Outcome) -> None:
        """Do nothing."""

    def write(self) -> None:
        """Do nothing."""


def ingest(
    sources: Sequence[RecordingSource], folder: Path, options: IngestOptions, watcher: Watcher | None = None
) -> Ingested:
    """Make a store of recordings (`layouts.sources_in`) in `folder`, or add them to the one that is there.

    A run that was cut off is gone on with: recordings that were finished then are not looked at again.
    From a program, call it under `if __name__ == "__main__":` unless options.workers is 1: processes are spawned.
    Raises StoreError: no recording gave a crop, the store was made in another way, two recordings have one name, or
    the store cannot be written. Recordings that cannot be used are told to the watcher, and the rest goes on.
    """
    began = time.monotonic()
    watcher = watcher or NoWatcher()
    making = _making(sources, options)
    about = open_store(folder).about if (folder / STORE).exists() else None
    if about is not None:
        _check_making(folder, about.making, making)
    stored = {recording.name: recording for recording in about.recordings} if about is not None else {}
    todo = [source for source in sources if not _is_there(source, folder, making, stored.get(source.name))]
    watcher.begin(todo, len(sources) - len(todo))
    outcomes = _look_at_all(todo, folder, making, options, watcher)
    skipped = [
        Skipped(name=source.name, person=source.person, reason=outcome.trouble, was_read=outcome.was_read)
        for source, outcome in outcomes
        if not outcome.count
    ]
    if about is None or any(part.count and part.name not in stored for part in open_parts(folder, making)):
        watcher.write()
        _put_together(folder, making, about, skipped)
    remove_parts(folder)
    return Ingested(
        store=open_store(folder),
        kept=len(sources) - len(todo),
        outcomes=tuple(outcomes),
        seconds=time.monotonic() - began,
    )


def _making(sources: Sequence[RecordingSource], options: IngestOptions) -> Making:
    if options.is_as_is and options.landmarker is not None:
        raise StoreError("crops taken as they are have no landmarks; leave out one of --as-is and --landmarker")
    if options.is_as_is and any(source.kind == "session" for source in sources):
        raise StoreError("sessions hold aligned crops already; leave out --as-is")
    try:
        landmarker = None if options.landmarker is None else file_digest(options.landmarker)
    except OSError as error:
        raise StoreError(
            f"cannot read the Face Landmarker model {options.landmarker}: {error.strerror or error}; "
            "fetch it with psm-doctor --fetch-models"
        ) from None
    return Making(
        template=AS_IS if options.is_as_is else template.NAME,
        every=options.every,
        frames=options.frames,
        landmarker=landmarker,
    )


def _check_making(folder: Path, was: Making, will: Making) -> None:
    before, now = was.model_dump(), will.model_dump()
    words = ", ".join(f"{key} {before[key]} and not {now[key]}" for key in before if before[key] != now[key])
    if words:
        raise StoreError(f"crop store {folder} was made with {words}; do the same, or name another folder")


def _is_there(source: RecordingSource, folder: Path, making: Making, stored: Recording | None) -> bool:
    """Tell whether a recording needs no look: it is in the store, or among the parts of a run that was cut off.

    Raises StoreError: another recording has its name.
    """
    try:
        if stored is not None:
            return _is_same(source, stored.person, stored.digest == digest_of(source), folder)
        part = find_part(folder, source.name, making)
        if part is None:
            return False
        is_unchanged = part.stamp == stamp_of(source) if part.stamp else part.digest == digest_of(source)
        if not is_unchanged and part.source == printable(str(source.path)):
            return False  # it changed since the run that was cut off
        return _is_same(source, part.person, is_unchanged, folder)
    except OSError:
        return False  # looking at it says what is wrong


def _is_same(source: RecordingSource, person: str, has_same_content: bool, folder: Path) -> bool:
    if not has_same_content:
        raise StoreError(
            f"crop store {folder} has a recording {source.name!r} from another file than {source.path}; "
            "rename one of them, or name another store"
        )
    if person != source.person:
        raise StoreError(f"crop store {folder} has {source.name!r} as {person!r}, not {source.person!r}; use one name")
    return True


def _look_at_all(
    todo: Sequence[RecordingSource], folder: Path, making: Making, options: IngestOptions, watcher: Watcher
) -> list[tuple[RecordingSource, Outcome]]:
    look = Look(making, options.landmarker)
    tasks = [Task(source, look, folder) for source in todo]
    workers = options.workers or min(MOST_WORKERS, os.cpu_count() or 1)
    outcomes: dict[int, Outcome] = {}

    def told(index: int, progress: tuple[int, int | None]) -> None:
        watcher.progress(todo[index], *progress)

    with closing(work_through(gather, tasks, workers, told)) as results:
        for index, result in results:
            outcome = Outcome(trouble=result.reason, was_read=False) if isinstance(result, Died) else result
            if outcome.is_fatal:
                raise StoreError(outcome.trouble)
            outcomes[index] = outcome
            watcher.finish(todo[index], outcome)
    return [(source, outcomes[index]) for index, source in enumerate(todo)]


def _put_together(folder: Path, making: Making, about: StoreAbout | None, skipped: Sequence[Skipped]) -> None:
    """Make one store of all parts, those of an earlier run included, and of what the store held (`about`)."""
    if about is not None:
        unpack(open_store(folder))  # held no longer: maps of open files cannot be replaced on Windows
    parts = sorted(open_parts(folder, making), key=lambda part: reading_order(part.person, part.name))
    without = [
        Skipped(name=part.name, person=part.person, reason=part.note or no_face(part.looked_at or 0), was_read=True)
        for part in parts
        if not part.count
    ]
    there = {part.name for part in parts if part.count}
    known = about.skipped if about is not None else ()
    absent = {entry.name: entry for entry in (*known, *without, *skipped) if entry.name not in there}
    ordered = sorted(absent.values(), key=lambda entry: reading_order(entry.person, entry.name))
    if not there:
        raise StoreError(f"no recording gave a crop: {ordered[0].name}: {ordered[0].reason}")
    write_store(folder, parts, making, ordered)
