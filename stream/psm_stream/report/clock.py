"""The clock of a report: seconds from the first frame, on whichever clock means something."""

from __future__ import annotations

import math

from psm_stream.values import Stamp


class SessionClock:
    """Turns stamps into times of the report. It never goes back.

    A live recording has the times at which frames were captured. One made at the pace `fast` has the file's own times,
    since it was captured as fast as the machine could; where a file starts again, its time goes on.
    """

    def __init__(self, *, is_fast: bool) -> None:
        self._is_fast = is_fast
        self._first: Stamp | None = None
        self._last: Stamp | None = None
        self._step = 0.0
        self.now = 0.0
        """The time of the last frame."""

    @property
    def is_of_the_source(self) -> bool:
        """Whether these are the source's own times."""
        return self._is_fast and self._first is not None and not math.isnan(self._first.t_source)

    def advance(self, frame: Stamp) -> float:
        """Take the next frame and return its time."""
        if self._first is None:
            self._first = frame
        elif self.is_of_the_source and self._last is not None:
            step = frame.t_source - self._last.t_source
            self._step = step if step > 0 else self._step
            self.now += self._step
        else:
            self.now = max(self.now, frame.t_capture - self._first.t_capture)
        self._last = frame
        return self.now

    def of(self, t: float) -> float:
        """Return the report's time of a moment t of the recorded monotonic clock, which is about now."""
        if self._first is None or self.is_of_the_source or math.isnan(t):
            return self.now
        return t - self._first.t_capture
