"""Where pictures come from: the Source protocol, and the table of every source.

Adding a source is one new file and one line in `SOURCES`. A source is opened, read and closed by one thread, the
capture thread. It never waits without a bound, and it knows nothing of frames, slots and retries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias

from psm_stream.values import NAN, Image

if TYPE_CHECKING:
    from psm_stream.config import SourceSettings  # which itself needs redact from this package

Clock: TypeAlias = Callable[[], float]
"""Seconds on the process's monotonic clock."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as its source gives it.

    image: [H, W, 3] RGB uint8, upright.
    t_capture: when it was captured, seconds on the clock that the source was made with.
    t_source: its own time in its medium, seconds from the start of the file or stream; NaN if it has none.
    label: what the source itself knows about it, or "".
    """

    image: Image
    t_capture: float
    t_source: float = NAN
    label: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Pictures that the source had and could not give. cause: "decode" or "slot". count: may be 0 (nothing yet)."""

    cause: str
    count: int = 1


class Source(Protocol):
    """What the capture thread reads.

    name: for people and logs, one line, credentials already redacted.
    is_live: True if a picture that is not read in time is lost (camera, stream); False if it waits (file).
    fps: nominal rate, pictures a second; None if unknown. Known once the source is open.
    """

    name: str
    is_live: bool
    fps: float | None

    def open(self) -> None:
        """Open, or open again after `close`. Raises SourceError: one line, what to do."""
        ...

    def read(self) -> Picture | Skipped | None:
        """Give the next picture, or what was lost on the way to it; None: it has ended.

        A live source waits for `stall_s` at most. Raises SourceLost: it stalled or vanished, opening it again may
        help. Raises SourceError: it cannot be read further.
        """
        ...

    def close(self) -> None:
        """Let go of the device; idempotent.

        On a live source any thread may call it, and an `open` or `read` that waits there then raises SourceLost at
        once. On the others only the reading thread may.
        """
        ...


def _camera(settings: SourceSettings, clock: Clock) -> Source:
    from psm_stream.sources.camera import CameraSource

    return CameraSource(settings, clock)


def _rtsp(settings: SourceSettings, clock: Clock) -> Source:
    from psm_stream.sources.rtsp import RtspSource

    return RtspSource(settings, clock)


def _file(settings: SourceSettings, clock: Clock) -> Source:
    from psm_stream.sources.file import FileSource

    return FileSource(settings, clock)


def _images(settings: SourceSettings, clock: Clock) -> Source:
    from psm_stream.sources.images import ImagesSource

    return ImagesSource(settings, clock)


def _demo(settings: SourceSettings, clock: Clock) -> Source:
    from psm_stream.sources.demo import DemoSource

    return DemoSource(settings, clock)


# Each entry imports its module when called: OpenCV, PyAV and scikit-image cost 0.1 to 0.5 s at start.
SOURCES: Mapping[str, Callable[[SourceSettings, Clock], Source]] = MappingProxyType(
    {"camera": _camera, "rtsp": _rtsp, "file": _file, "images": _images, "demo": _demo}
)
