"""The clock of a report: seconds from the first frame, by the frames' own time where the source keeps one."""

from __future__ import annotations

import math

from psm_stream.values import Stamp


class SessionClock:
    """Turns stamps into times of the report. It never goes back: where a file starts again, its time goes on.

    The first frame decides whether the source's own times count, or when frames were captured, as in exported tables.
    """

    def __init__(self) -> None:
        self._last: Stamp | None = None
        self._step = 0.0
        self.has_own_time = False
        self.now = 0.0
        """The time of the last frame."""

    def advance(self, frame: Stamp) -> float:
        """Take the next frame and return its time."""
        if self._last is None:
            self.has_own_time = not math.isnan(frame.t_source)
        else:
            own, captured = frame.t_source - self._last.t_source, frame.t_capture - self._last.t_capture
            step = own if self.has_own_time else captured
            self._step = step if step > 0 else self._step
            self.now += self._step
        self._last = frame
        return self.now

    def of(self, t: float) -> float:
        """Return the time of a moment t of the recorded monotonic clock, which is near the last frame's."""
        off = 0.0 if self._last is None else t - self._last.t_capture
        return self.now if math.isnan(off) else self.now + off
