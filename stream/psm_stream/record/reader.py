"""Opening a recorded session: finished or cut off, whole or damaged, ours or foreign.

Nothing in a session is executed, and every size is checked before memory is taken for it. What cannot be read is a
`SessionError` of one line that names the place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from psm_stream.errors import SessionError
from psm_stream.record import framing, session
from psm_stream.record.codec import Record, Start, Swap, VideoFrame, decode
from psm_stream.record.log import INPUT_ENCODING, MESSAGE_ENCODING
from psm_stream.values import Faces, Marker, NoFace
from psm_stream.wire.messages import Message

RecordedInput: TypeAlias = Faces | NoFace | Marker | Swap
"""An input as the log has it; a Swap names the encoder that a SwapEncoder holds."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Logged:
    """One entry of the log.

    t: its time on the recording's monotonic clock, to the microsecond. offset: byte of the log at which its chunk is.
    """

    value: Record | Message
    t: float
    offset: int


class Session:
    """A recorded session.

    folder, info: where it is and what its info.json says. is_finished: False when the recording was cut off (or still
    goes on); it can then be read up to the cut. size_bytes: of the log. lost_bytes: after the last whole chunk.
    """

    def __init__(self, folder: Path) -> None:
        """Open a session folder. Raises SessionError: it is not one, or its log is damaged beyond its beginning."""
        self.folder = folder
        self.info = session.read_info(folder)
        self._log = folder / session.LOG
        try:
            with self._log.open("rb") as file:
                self._extent = framing.survey(file)
        except FileNotFoundError:
            if self.info.finished is not None:
                raise SessionError(f"{folder} has no {session.LOG}") from None
            self._extent = framing.Extent(0, False, 0)  # cut off between the two files
        except OSError as error:
            raise SessionError(f"cannot read {self._log}: {session.in_words(error, self._log)}") from None
        except framing.Damage as damage:
            raise self._damaged(damage) from None
        if self.info.finished is not None and not self._extent.is_whole:
            where = f"it ends at byte {self._extent.size}, and {session.INFO} says that it was finished"
            raise SessionError(f"{self._log} is damaged: {where}")
        self.is_finished = self._extent.is_whole
        self.size_bytes = self._extent.size
        self.lost_bytes = 0 if self.is_finished else self._extent.size - self._extent.end

    def entries(self) -> Iterator[Logged]:
        """Give inputs and published messages in the order in which they happened.

        Raises SessionError: the log is damaged at this place.
        """
        if self._extent.size == 0:
            return
        started = self.info.started
        try:
            with self._log.open("rb") as file:
                for entry in framing.entries(file, self._extent):
                    t = started.monotonic + (entry.log_ns / 1e9 - started.unix)
                    yield Logged(self._read(entry), t, entry.offset)
        except OSError as error:
            raise SessionError(f"cannot read {self._log}: {session.in_words(error, self._log)}") from None
        except framing.Damage as damage:
            raise self._damaged(damage) from None

    def inputs(self) -> Iterator[RecordedInput]:
        """Give what the pipeline was fed, in order."""
        for logged in self.entries():
            if isinstance(logged.value, Faces | NoFace | Marker | Swap):
                yield logged.value

    def messages(self) -> Iterator[Message]:
        """Give what was published, in order."""
        for logged in self.entries():
            if isinstance(logged.value, Message):
                yield logged.value

    def video_frames(self) -> Iterator[VideoFrame]:
        """Give where each captured frame is in the video, in order."""
        for logged in self.entries():
            if isinstance(logged.value, VideoFrame):
                yield logged.value

    def start(self) -> Start:
        """Return the encoder that was in use when the recording began; from info.json when the log is empty."""
        first = next(self.entries(), None)
        if first is None:
            return Start(self.info.models[0], 0)
        if not isinstance(first.value, Start):
            raise SessionError(f"{self._log} does not begin with an input.start record")
        return first.value

    def model_folder(self, model_id: str) -> Path:
        """Return where the bundle of a model is. Raises SessionError: it is not there."""
        folder = session.model_folder(self.folder, model_id)
        try:
            is_there = folder.is_dir()
        except OSError as error:
            raise SessionError(f"cannot read {folder}: {session.in_words(error, folder)}") from None
        if not is_there:
            raise SessionError(f"{self.folder} has no copy of model {model_id}; it belongs in {folder}")
        return folder

    def _read(self, entry: framing.Entry) -> Record | Message:
        try:
            if entry.encoding == INPUT_ENCODING:
                return decode(entry.channel, entry.body)
            if entry.encoding == MESSAGE_ENCODING:
                return _read_message(entry.channel, entry.body)
        except SessionError as error:
            raise framing.Damage(entry.offset, f"record {entry.sequence}: {error}") from None
        raise framing.Damage(entry.offset, f"record {entry.sequence}: unknown encoding {entry.encoding!r}")

    def _damaged(self, damage: framing.Damage) -> SessionError:
        return SessionError(f"{self._log} is {damage}")


def _read_message(topic: str, body: bytes) -> Message:
    if len(body) < _LENGTH.size:
        raise SessionError("a message is shorter than its own length")
    (header_length,) = _LENGTH.unpack_from(body)
    payload_at = _LENGTH.size + header_length
    if payload_at > len(body):
        raise SessionError(f"a message of {len(body)} bytes claims a header of {header_length}")
    return Message(topic, body[_LENGTH.size : payload_at], body[payload_at:])
