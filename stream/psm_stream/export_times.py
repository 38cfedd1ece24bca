"""The time line of an exported table: which frame was when, and which was the last one before a moment."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right

from psm_stream.values import Stamp


class TimeLine:
    """All recorded frames, in the order of their capture; 24 bytes for each."""

    def __init__(self) -> None:
        self._has_own_time = False
        self._start = math.nan
        self._captured = array("d")
        self._timestamps = array("d")
        self._indices = array("q")

    def add(self, frame: Stamp) -> None:
        """Add the next frame. The first one decides: the source's own time, or the time since that frame."""
        if not self._captured:
            self._has_own_time = not math.isnan(frame.t_source)
            self._start = frame.t_capture
        # one thread captures, so this is the end; bisect keeps the order for a log that somebody else wrote
        place = bisect_right(self._captured, frame.t_capture)
        self._captured.insert(place, frame.t_capture)
        self._indices.insert(place, frame.index)
        self._timestamps.insert(place, self.of(frame))

    def of(self, frame: Stamp) -> float:
        """Return the timestamp of an added frame, s."""
        return frame.t_source if self._has_own_time else frame.t_capture - self._start

    def before(self, t: float) -> tuple[int, float] | None:
        """Return the index of the last frame captured at or before t, and t as a timestamp; None if there is none."""
        place = bisect_right(self._captured, t) - 1
        if place < 0:
            return None
        return self._indices[place], self._timestamps[place] + t - self._captured[place]
