"""A recorded session as tables: one row for each frame and face, and the markers beside it.

The tables hold what was recorded, nothing is computed again. docs/session.md lists the columns, and says where they
differ from OpenFace's, whose names they have where they mean the same.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from psm_stream.client.messages import Malformed, decode_header, decode_payload
from psm_stream.errors import SessionError
from psm_stream.export_columns import Row, Shape, batch, columns
from psm_stream.export_times import TimeLine
from psm_stream.record import session as layout
from psm_stream.record.codec import Record
from psm_stream.record.reader import Session
from psm_stream.values import Faces, Marker, NoFace
from psm_stream.wire.messages import Message

TableFormat = Literal["parquet", "csv"]

ROWS_AT_ONCE = 512
"""Rows in a parquet row group, about 2.5 MB."""

MARKERS = "markers.csv"
MARKER_COLUMNS = ("label", "t", "timestamp", "origin", "frame", "fields")

METADATA = b"psm-stream"
"""Key of the parquet file's schema metadata under which `about` stands."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. missing: faces without an embedding, as the last one of a recording that was cut off."""

    folder: Path
    rows: int
    markers: int
    missing: int


def export(
    session: Session, table: TableFormat, out: Path | None = None, progress: Callable[[float], None] = lambda _: None
) -> Exported:
    """Write `faces.parquet` or `faces.csv`, and `markers.csv`, into out, or into the session's next `exports/NNN`.

    progress: told how much of the work is done, 0..1.

    Raises SessionError: the log is damaged, a table is there already, or the folder cannot be written.
    """
    made: list[Path] = []
    try:
        return _write(session, table, out, made, progress)
    except FileExistsError as error:
        _remove(made)
        raise SessionError(f"{error.filename} is there already; name another folder with --out DIR") from None
    except OSError as error:
        _remove(made)
        raise SessionError(f"cannot export: {layout.in_words(error)}; name a folder with --out DIR") from None
    except BaseException:  # an interrupt, too, must not leave half a table
        _remove(made)
        raise


def about(session: Session) -> dict[str, Any]:
    """Return what a table says of the session it comes from, so that it can be told when the two are apart."""
    info = session.info
    return {
        "session": info.uuid,
        "models": list(info.models),
        "version": info.versions.get("psm-stream", ""),
        "started": {"monotonic": info.started.monotonic, "unix": info.started.unix},
    }


def _survey(session: Session, progress: Callable[[float], None]) -> tuple[Shape, TimeLine]:
    """Read the whole log once: which columns there are, when the frames were, and whether all of it can be read."""
    landmarks = dimension = blendshapes = 0
    has_pose = False
    times = TimeLine()
    for logged in session.entries():
        value = logged.value
        if isinstance(value, Faces | NoFace):
            times.add(value.frame)
        if isinstance(value, Faces):
            for face in value.faces:
                landmarks = max(landmarks, len(face.landmarks))
                blendshapes = max(blendshapes, 0 if face.blendshapes is None else len(face.blendshapes))
                has_pose = has_pose or face.pose is not None
        elif isinstance(value, Message) and value.kind == "embedding":
            dimension = max(dimension, len(_embedding(value)[1]))
        progress(logged.offset / session.size_bytes)
    return Shape(landmarks, dimension, blendshapes, has_pose), times


def _write(
    session: Session, table: TableFormat, out: Path | None, made: list[Path], progress: Callable[[float], None]
) -> Exported:
    shape, times = _survey(session, lambda part: progress(part / 2))
    folder = layout.new_numbered(session.folder / layout.EXPORTS) if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    faces_path, markers_path = folder / f"faces.{table}", folder / MARKERS
    with ExitStack() as files:
        faces = files.enter_context(faces_path.open("xb"))
        made.append(faces_path)
        markers = files.enter_context(markers_path.open("x", encoding="utf-8", newline=""))
        made.append(markers_path)
        schema = columns(shape).with_metadata({METADATA: json.dumps(about(session))})
        rows = files.enter_context(_open_rows(table, faces, schema))
        join = _Join(rows, shape, times, markers)
        for logged in session.entries():
            join.take(logged.value)
            progress((1 + logged.offset / session.size_bytes) / 2)
        join.flush()
    return Exported(folder, join.rows, join.markers, join.missing)


def _open_rows(table: TableFormat, file: BinaryIO, schema: pa.Schema) -> Any:
    """Open pyarrow's writer of batches."""
    if table == "parquet":
        return pyarrow.parquet.ParquetWriter(file, schema, compression="zstd")
    file.write((",".join(schema.names) + "\n").encode())  # pyarrow would quote every name
    return pyarrow.csv.CSVWriter(file, schema, write_options=pyarrow.csv.WriteOptions(include_header=False))


class _Join:
    """Puts each input together with what was published of it, and writes whole rows."""

    def __init__(self, out: Any, shape: Shape, times: TimeLine, markers: TextIO) -> None:
        self.rows = self.markers = self.missing = 0
        self._out = out
        self._shape = shape
        self._times = times
        self._markers = csv.writer(markers)
        self._markers.writerow(MARKER_COLUMNS)
        self._waiting: dict[tuple[int, int], Row] = {}

    def take(self, value: Record | Message) -> None:
        """Take the next entry of the log."""
        if isinstance(value, Faces | NoFace):
            if len(self._waiting) >= ROWS_AT_ONCE:  # all that was published of them came before this frame
                self.flush()
            self._add(value)
        elif isinstance(value, Message) and value.kind == "embedding":
            header, vector = _embedding(value)
            frame, face_id = header.get("frame_index", -1), header.get("face_id", -1)
            row = self._waiting.get((frame, face_id))
            if row is None:
                raise SessionError(f"{value.topic} of frame {frame} belongs to no recorded face")
            row.header, row.vector = header, vector
        elif isinstance(value, Marker):
            self._write_marker(value)

    def flush(self) -> None:
        """Write the rows that wait."""
        rows = list(self._waiting.values())
        self._waiting.clear()
        self.missing += sum(row.face is not None and row.vector is None for row in rows)
        self.rows += len(rows)
        if rows:
            self._out.write_batch(batch(rows, self._shape))

    def _add(self, sighting: Faces | NoFace) -> None:
        frame = sighting.frame
        timestamp = self._times.of(frame)
        if isinstance(sighting, NoFace):
            self._waiting[frame.index, -1] = Row(frame, timestamp, reason=sighting.reason)
            return
        for face in sighting.faces:
            self._waiting[frame.index, face.face_id] = Row(frame, timestamp, face)

    def _write_marker(self, marker: Marker) -> None:
        """Write a marker with the last frame captured before it, and its time on that frame's time line.

        Which was processed last would be another one: some wait while the marker comes in.
        """
        index, timestamp = self._times.before(marker.t) or ("", "")
        fields = json.dumps(dict(marker.fields), ensure_ascii=False, default=str)
        self._markers.writerow((marker.label, repr(marker.t), timestamp, marker.origin, index, fields))
        self.markers += 1


def _embedding(message: Message) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Read an embedding message. Raises SessionError: it is none."""
    try:
        header = decode_header(message.header)
        vector = decode_payload(header, message.payload)
    except Malformed as error:
        raise SessionError(f"a recorded {message.topic} message cannot be read: {error}") from None
    if not isinstance(vector, np.ndarray) or vector.ndim != 1:
        raise SessionError(f"a recorded {message.topic} message holds no vector")
    return header, vector


def _remove(made: list[Path]) -> None:
    for path in made:
        path.unlink(missing_ok=True)
