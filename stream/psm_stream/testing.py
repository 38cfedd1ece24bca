"""Fakes for tests, of this package and of programs that use it: a clock set by hand, numbered pictures, a source,
bundles that say something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from psm_stream.bundle import MANIFEST, manifest_digest
from psm_stream.errors import SourceError
from psm_stream.sources import Picture, Skipped
from psm_stream.values import NAN, Image

_BITS = 16


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a bundle's manifest.json says, and its own digest with it."""
    path = folder / MANIFEST
    tree = json.loads(path.read_text(encoding="utf-8"))
    change(tree)
    if "digest" in tree:
        tree["digest"] = manifest_digest(tree)
    path.write_text(json.dumps(tree), encoding="utf-8")


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


def numbered_image(number: int, width: int = 64, height: int = 16) -> Image:
    """Draw a number (0..65535) as 16 black or white bars, lowest bit left, which survive any video codec.

    width: px, a multiple of 16. Returns [height, width, 3].
    """
    bars = np.array([255 * (number >> bit & 1) for bit in range(_BITS)], np.uint8)
    return np.broadcast_to(bars.repeat(width // _BITS)[None, :, None], (height, width, 3)).copy()


def number_in(image: Image) -> int:
    """Read the number that `numbered_image` drew, of any size."""
    bars = image[:, :, 1].mean(0).reshape(_BITS, -1).mean(1)
    return sum(1 << bit for bit in range(_BITS) if bars[bit] > 127)


def picture(number: int, t_source: float = NAN, t_capture: float = 0.0) -> Picture:
    """Make a small numbered picture."""
    return Picture(numbered_image(number), t_capture, t_source)


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
