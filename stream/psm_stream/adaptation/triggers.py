"""When to adapt: on the first full buffer, after a while, when the embeddings have drifted; and when not to.

Nothing here reads a clock or starts anything: the adapter asks, and tells what became of it.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from psm_stream.config import AdaptationSettings

ENOUGH_FACES = 100
"""`C` may start an adaptation with so many faces; the automatic rules wait for a full buffer."""
WINDOW_S = 60.0
"""Time constant of the drift: what a person does in a few seconds, such as a sentence, is no drift."""


class Ended(Enum):
    """What became of an adaptation. STOPPED: by order, or since nothing came of it that anybody waits for."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    STOPPED = "stopped"


class Triggers:
    """The rules for automatic starts. Times are seconds on the clock of whoever calls; one thread.

    capacity: faces that fill the buffer.
    """

    def __init__(self, settings: AdaptationSettings, capacity: int) -> None:
        self.is_paused = False
        """No automatic start until somebody asks for one: after REVERT and `c`."""
        self.drift = Drift()
        self._settings = settings
        self._capacity = capacity
        self._started: float | None = None
        self._written = 0  # faces ever kept, at the last start
        self._last = Ended.ACCEPTED
        self._in_a_row = 0  # adaptations without a new model
        self._not_before = -math.inf

    def due(self, now: float, faces: int, written: int) -> str:
        """Say why an adaptation should start now, or "".

        faces: in the buffer. written: ever kept in it.
        """
        if self.is_paused or now < self._not_before or faces < self._capacity:
            return ""
        if self._started is None:
            return "first fill"
        every_s = self._settings.every_s
        is_fresh = written - self._written >= self._settings.min_new_faces
        is_due = is_fresh and now - self._started >= every_s
        has_drifted = is_fresh and self.drift.value >= self._settings.drift
        rules = (
            (self._last is Ended.FAILED, "again after a failure"),  # the faces were not at fault
            (is_fresh and self._last is Ended.REJECTED, "again after a rejection"),
            (is_due, f"{every_s:g} s after the last"),
            (has_drifted, f"drift of {self.drift.value:.1f}"),
        )
        return next((why for holds, why in rules if holds), "")

    def started(self, now: float, written: int) -> None:
        """Take note of a start, of whatever kind. written: faces ever kept."""
        self._started = now
        self._written = written
        self.drift.restart()

    def ended(self, now: float, how: Ended) -> float | None:
        """Take note of an end. Returns in how many seconds the next automatic try may be, None when none is planned.

        The wait doubles with each adaptation in a row that fails or is rejected.
        """
        self._last = how
        if how in (Ended.ACCEPTED, Ended.STOPPED):
            self._in_a_row = 0
            return None
        doubled = self._settings.backoff_s * 2.0 ** min(self._in_a_row, 30)
        wait_s = min(doubled, self._settings.backoff_max_s)
        self._in_a_row += 1
        self._not_before = now + wait_s
        return None if self.is_paused else wait_s


class Drift:
    """How far the embeddings of now are from those of the time after the last start.

    value: the distance between the mean of the last minute or so (exponential window, WINDOW_S) and the mean over the
    first WINDOW_S after `restart`, in units of the spread there: sqrt(|m1 - m0|^2 / trace(covariance)). 0 for the same
    distribution, 1 when the mean has moved by the whole spread of what the face did; 0 until both are known.

    With the general encoder, whose codes say little of who it is and how the light falls, it was 0.15 to 0.22 between
    the two halves of a minute of one speaker (four of GRID), at most 0.6 between quarters of a minute, and between two
    people 0.3 to 1.4, 0.6 in the median. So the default notices a new face about every second time, and no sentence.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew: another encoder, or another adaptation."""
        self.value = 0.0
        self._count = 0
        self._since = self._last = math.nan
        self._mean: NDArray[np.float64] = np.zeros(0)
        self._squares: NDArray[np.float64] = np.zeros(0)
        self._recent: NDArray[np.float64] | None = None

    def see(self, vector: NDArray[np.float32], t: float) -> None:
        """Take one embedding. vector: [D]. t: when its frame was captured, s."""
        if self._count == 0:
            self._since = self._last = t
            self._mean, self._squares = np.zeros(len(vector)), np.zeros(len(vector))
        if self._recent is None:
            self._count += 1  # Welford 1962: mean and sum of squares in one pass
            step = vector - self._mean
            self._mean += step / self._count
            self._squares += step * (vector - self._mean)
            if t - self._since >= WINDOW_S:
                self._recent = self._mean.copy()
        else:
            self._recent += -math.expm1(-max(t - self._last, 0.0) / WINDOW_S) * (vector - self._recent)
            spread = float(self._squares.sum()) / self._count
            moved = float(np.square(self._recent - self._mean).sum())
            self.value = math.sqrt(moved / spread) if spread > 0 else 0.0
        self._last = t
