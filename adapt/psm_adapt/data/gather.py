"""Gathering one recording: it is looked at from beginning to end, and its crops become a part of the store."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.columns import COLUMNS
from psm_adapt.data.layouts import RecordingSource
from psm_adapt.data.looking import Look, Looked, aligner_of, extent, look_at
from psm_adapt.data.parts import PartAbout, PartWriter, digest_of, stamp_of
from psm_stream.errors import PsmError, SessionError, SourceError, StoreError
from psm_stream.record.reader import Session
from psm_stream.redact import printable

Tell: TypeAlias = Callable[[tuple[int, int | None]], None]
"""Takes how many frames were looked at so far, and how many there will be (None: unknown)."""

Answer = TypeVar("Answer")

RECORD_THEM = "--aligner.name landmarker"
"""What psm-stream needs so that a session has blendshapes."""
_ROWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Task:
    """A recording to gather, how, and the folder of the store that it is for."""

    source: RecordingSource
    look: Look
    store: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a recording.

    count: frames with a face. looked_at: frames looked at. trouble: what is wrong with it, or "".
    was_read: False if it could not be read. is_fatal: the store itself cannot be written, so nothing can go on.
    details: the traceback of what was not expected, or "".
    """

    count: int = 0
    looked_at: int = 0
    trouble: str = ""
    was_read: bool = True
    is_fatal: bool = False
    details: str = ""


def gather(task: Task, tell: Tell) -> Outcome:
    """Look at a recording and write its part. Never raises: what goes wrong is in the outcome."""
    try:
        return _gather(task, tell)
    except StoreError as error:
        return Outcome(trouble=str(error), was_read=False, is_fatal=True)
    except PsmError as error:
        return Outcome(trouble=str(error), was_read=False)
    except Exception as error:  # anything at all must reach the user, and must not end the others
        text = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        return Outcome(trouble=text, was_read=False, details=traceback.format_exc())


def _gather(task: Task, tell: Tell) -> Outcome:
    source, look = task.source, task.look
    expected = _of_files(lambda: extent(source, look.making), source)
    stamp = _of_files(lambda: stamp_of(source), source)
    try:
        with PartWriter(task.store, source.name, look.making) as part:
            looked_at, cut = _write(part, task, lambda so_far: tell((so_far, expected.frames)))
            note = "; ".join(filter(None, [cut, _unlike_the_others(task, part)]))
            about = PartAbout(
                name=source.name,
                person=source.person,
                kind=source.kind,
                source=printable(str(source.path)),
                stamp=stamp,
                digest=_of_files(lambda: digest_of(source), source),
                aligner=aligner_of(source, look),
                making=look.making,
                looked_at=looked_at,
                fps=expected.fps,
                note=note,
                count=part.count,
                columns=part.columns,
            )
            part.finish(about)
    except OSError as error:
        raise StoreError(
            f"cannot write {task.store}: {error.strerror or error}; make room or name another folder"
        ) from None
    return Outcome(part.count, looked_at, note or ("" if part.count else no_face(looked_at)))


def no_face(looked_at: int) -> str:
    """Say that there was none."""
    return f"no face in {looked_at} frames"


def _write(part: PartWriter, task: Task, tell: Callable[[int], None]) -> tuple[int, str]:
    """Look at every frame. Returns how many there were, and what was wrong with the recording, or "".

    What a broken recording gave before it broke is kept. Raises PsmError: it gave nothing.
    """
    rows: list[Looked] = []
    looked_at, note = 0, ""
    try:
        for seen in look_at(task.source, task.look):
            looked_at += 1
            if seen is not None:
                rows.append(seen)
            if len(rows) == _ROWS_AT_ONCE:
                part.add(_columns(rows))
                rows.clear()
            if looked_at % _ROWS_AT_ONCE == 0:
                tell(looked_at)
        note = _cut_off(task.source)
    except (SourceError, SessionError) as error:
        if not looked_at:
            raise
        note = str(error)
    if rows:
        part.add(_columns(rows))
    tell(looked_at)
    return looked_at, note


def _columns(rows: Sequence[Looked]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        "crops": np.stack([row.crop for row in rows]),
        "t": np.array([row.t for row in rows]),
        "segment": np.array([row.segment for row in rows]),
        "frame_index": np.array([row.frame_index for row in rows]),
        "landmarks": np.stack([row.landmarks for row in rows]),
        "confidence": np.array([row.confidence for row in rows]),
    }
    if any(row.blendshapes is not None for row in rows):
        missing = COLUMNS["blendshapes"].empty(1)[0]
        columns["blendshapes"] = np.stack([missing if row.blendshapes is None else row.blendshapes for row in rows])
    return columns


def _cut_off(source: RecordingSource) -> str:
    if source.kind == "session" and not Session(source.path).is_finished:
        return f"{source.path} is cut off; read up to the cut"
    return ""


def _unlike_the_others(task: Task, part: PartWriter) -> str:
    """Say that a session has no blendshapes where others are given them: it holds no frames to look at again."""
    is_asked = task.source.kind == "session" and task.look.landmarker is not None
    if not is_asked or not part.count or "blendshapes" in part.columns:
        return ""
    return "a session has the action units that it was recorded with; for blendshapes record with " + RECORD_THEM


def _of_files(read: Callable[[], Answer], source: RecordingSource) -> Answer:
    try:
        return read()
    except OSError as error:
        raise SourceError(f"cannot read {source.path}: {error.strerror or error}; check its permissions") from None
