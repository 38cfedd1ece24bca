"""Fakes for tests, of this package and of programs that use it: a clock that is set by hand, a scripted source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from psm_stream.errors import SourceError
from psm_stream.sources import Picture, Skipped
from psm_stream.values import Image


class ManualClock:
    """A monotonic clock that only moves when told. Call it for the time, in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass; takes the place of a sleep."""
        self.now += seconds


def picture(number: int, t_source: float = float("nan"), t_capture: float = 0.0, label: str = "") -> Picture:
    """Make a 4x4 picture that carries `number` (0..16777215) in its colour, for `number_of` to read."""
    image = np.empty((4, 4, 3), np.uint8)
    image[:] = (number >> 16 & 255, number >> 8 & 255, number & 255)
    return Picture(image, t_capture, t_source, label)


def number_of(image: Image) -> int:
    """Read the number that `picture` wrote."""
    red, green, blue = (int(value) for value in image[0, 0])
    return red << 16 | green << 8 | blue


class FakeSource:
    """A source that follows a script: pictures and skips are read, errors are raised, and then it ends.

    opens: what each `open` in turn raises, None for success; after the last one every `open` succeeds.
    """

    name = "fake"

    def __init__(
        self,
        script: Iterable[Picture | Skipped | BaseException],
        opens: Sequence[SourceError | None] = (),
        is_live: bool = True,
        fps: float | None = 30.0,
    ) -> None:
        self._script = iter(script)
        self._opens = iter(opens)
        self.is_live = is_live
        self.fps = fps
        self.is_open = False
        self.times_opened = 0

    def open(self) -> None:
        """Open, or raise what the script says."""
        error = next(self._opens, None)
        if error is not None:
            raise error
        self.is_open = True
        self.times_opened += 1

    def read(self) -> Picture | Skipped | None:
        """Give the next entry of the script."""
        step = next(self._script, None)
        if isinstance(step, BaseException):
            raise step
        return step

    def close(self) -> None:
        """Close; idempotent."""
        self.is_open = False
