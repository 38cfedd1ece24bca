"""When the pictures of a file are due, if it is played with its own timing. Reads no clock: it is told the time."""

from __future__ import annotations

from math import isnan

from psm_stream.values import NAN

_NOMINAL_FPS = 30.0
# A decoder that could not catch up for so long never will; a shorter hitch is skipped over.
_SLOW_AFTER_S = 1.0


class Pacer:
    """The schedule of one run. It starts with the first picture, which is due at once.

    Time goes on without a slow decoder, as it does in front of a camera: a picture whose successor is due as well is
    late and skipped. If skipping does not help within a second, the file is slow from there on: nothing is skipped
    any more, and its pictures are due as soon as they are there, so that latency does not grow.
    """

    def __init__(self, fps: float | None) -> None:
        self._step = 1.0 / (fps or _NOMINAL_FPS)
        self._nominal_step = self._step
        self._t_source = NAN
        self._due = NAN
        self._late_since = NAN
        self.is_slow = False
        """True once the file could not be read as fast as it should play."""

    def schedule(self, t_source: float, now: float) -> float | None:
        """Say when the picture is due, now or later; a moment ago if it is only just late. None: skip it.

        t_source: s, the picture's time in its medium; NaN, or a jump back as of a file that starts again, follows
        its predecessor at the nominal rate. now: s, when it was read, on the clock of the result.
        """
        self._advance(t_source, now)
        if now - self._due <= self._step:
            self._late_since = NAN
            return self._due
        if not self.is_slow:
            if isnan(self._late_since):
                self._late_since = now
            if now - self._late_since < _SLOW_AFTER_S:
                return None
            self.is_slow = True
        self._due = now
        return now

    def _advance(self, t_source: float, now: float) -> None:
        step = t_source - self._t_source
        self._t_source = t_source
        if isnan(self._due):
            self._due = now
            return
        self._step = step if step > 0 else self._nominal_step
        self._due += self._step
