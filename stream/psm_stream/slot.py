"""The hand-over of frames from the capture thread to the align thread.

One class, two promises: `Slot.latest()` never makes the writer wait and keeps the newest frame only; `Slot.queue()`
makes it wait and loses nothing. What is lost is counted by cause, and the count travels in the stamp of the next frame:

    captured = delivered + sum of `stamp.dropped` over the delivered frames + sum of `Slot.undelivered`
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Final, Literal

from psm_stream.sources import Source
from psm_stream.values import Frame


class End(Enum):
    """What `Slot.get` gives after the last frame."""

    END = "end"


END: Final = End.END


def slot_for(source: Source, pace: Literal["live", "fast"]) -> Slot:
    """Newest wins where time goes on without us; a file at pace `fast` loses nothing."""
    return Slot.latest() if source.is_live or pace == "live" else Slot.queue()


class Slot:
    """Frames in order. One thread puts, one thread gets, any thread may close."""

    def __init__(self, room: int, replaces: bool) -> None:
        self._room = room
        self._replaces = replaces
        self._waiting: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._undelivered: Counter[str] = Counter()

    @classmethod
    def latest(cls) -> Slot:
        """A frame that nobody took in time is replaced by the next one and counted (cause "slot")."""
        return cls(room=1, replaces=True)

    @classmethod
    def queue(cls, room: int = 4) -> Slot:
        """`put` waits while `room` frames wait."""
        return cls(room, replaces=False)

    def put(self, frame: Frame) -> None:
        """Hand over one frame. After `close` it is only counted (cause "stop")."""
        with self._changed:
            if not self._replaces:
                self._changed.wait_for(lambda: len(self._waiting) < self._room or self._ended)
            elif len(self._waiting) == self._room:
                frame = _with_loss_of(self._waiting.popleft(), frame)
            if self._ended:
                self._discard(frame)
            else:
                self._waiting.append(frame)
                self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Frame | End | None:
        """Take the next frame. Returns None after `timeout` seconds without one, END after the last one.

        Raises whatever ended the capture thread, once the frames that came before it are taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout)
            if self._waiting:
                frame = self._waiting.popleft()
                self._changed.notify_all()
                return frame
            if self._error is not None:
                raise self._error
            return END if self._ended else None

    def end(self, error: BaseException | None = None, dropped: Mapping[str, int] | None = None) -> None:
        """No frame follows. error: what `get` raises then. dropped: lost after the last frame, by cause."""
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._undelivered.update(dropped or {})
            self._changed.notify_all()

    def close(self) -> None:
        """End at once: frames that wait are discarded (cause "stop"), and whoever waits here wakes."""
        with self._changed:
            self._ended = True
            while self._waiting:
                self._discard(self._waiting.popleft())
            self._changed.notify_all()

    @property
    def depth(self) -> int:
        """How many frames wait now."""
        return len(self._waiting)

    @property
    def undelivered(self) -> dict[str, int]:
        """Losses that no delivered frame carries, by cause. Complete once the capture thread has ended."""
        with self._changed:
            return dict(self._undelivered)

    def _discard(self, frame: Frame) -> None:
        self._undelivered.update(frame.stamp.dropped)
        self._undelivered["stop"] += 1


def _with_loss_of(lost: Frame, frame: Frame) -> Frame:
    dropped = Counter({"slot": 1})
    dropped.update(lost.stamp.dropped)
    dropped.update(frame.stamp.dropped)
    return replace(frame, stamp=replace(frame.stamp, dropped=dict(dropped)))
