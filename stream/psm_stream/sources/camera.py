"""A webcam or capture card, by OpenCV."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from math import ceil, isnan
from typing import Any, NamedTuple, TypeAlias

import cv2

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError, SourceLost
from psm_stream.sources import Clock, Picture, Skipped
from psm_stream.sources.reader import Reader
from psm_stream.values import NAN, Image

_APIS = {
    "auto": cv2.CAP_ANY,
    "v4l2": cv2.CAP_V4L2,
    "gstreamer": cv2.CAP_GSTREAMER,
    "dshow": cv2.CAP_DSHOW,
    "msmf": cv2.CAP_MSMF,
    "avfoundation": cv2.CAP_AVFOUNDATION,
}
# Media Foundation on Windows needs up to ten seconds to start some cameras.
_OPEN_S = 15.0
_SILENT = 0  # OpenCV's LOG_LEVEL_SILENT, which has no name in Python
# The first picture of a camera may take so long.
_START_S = 3
# A driver's time stamp that is further than this from now is of another clock.
_PLAUSIBLE_AGE_S = 1.0

MakeCapture: TypeAlias = Callable[[int, int], Any]
"""Makes a cv2.VideoCapture, or something like it, from a device number and an OpenCV API number."""


class _Shot(NamedTuple):
    """One grabbed picture. t_device: the driver's time stamp, NaN without one. image: BGR; None: it is corrupt."""

    t_capture: float
    t_device: float
    image: Image | None


class CameraSource:
    """Live pictures of one camera, the newest only.

    Time of capture: the driver's own time stamp where it has one on our clock (V4L2), else when the picture came in.
    Size and rate are what the device chose: `name` says so once it is open, also where that is not what was asked for.
    """

    is_live = True

    def __init__(self, settings: SourceSettings, clock: Clock, make_capture: MakeCapture = cv2.VideoCapture) -> None:
        self.name = f"camera {settings.camera}"
        self.fps: float | None = None
        self._settings = settings
        self._clock = clock
        self._make_capture = make_capture
        self._reader: Reader[_Shot] | None = None
        self._newest: _Shot | None = None
        self._t_first = NAN

    def open(self) -> None:
        """Open the device and wait for its first picture. Raises SourceError."""
        device = _Camera(self._settings, self._clock, self._make_capture)
        reader = self._reader = Reader(device, room=1)
        self._newest = None
        self._t_first = NAN
        if not reader.start(_OPEN_S):
            raise SourceError(
                f"camera {self._settings.camera} gives no picture within {_OPEN_S:.0f} s; "
                "close other programs that use it, plug it in again, or try another source.backend"
            )
        self.name = device.name
        self.fps = device.fps

    def read(self) -> Picture | Skipped:
        """Wait for the next picture. Raises SourceLost: there is none within `stall_s`, or the camera is gone."""
        shot, self._newest = self._newest, None
        if shot is None:
            shot, lost = self._take()
            if lost:
                self._newest = shot
                return Skipped("slot", lost)
        if shot.image is None:
            return Skipped("decode")
        if isnan(self._t_first):
            self._t_first = shot.t_device
        return Picture(cv2.cvtColor(shot.image, cv2.COLOR_BGR2RGB), shot.t_capture, shot.t_device - self._t_first)

    def close(self) -> None:
        """Let go of the camera. From any thread."""
        reader = self._reader
        if reader is not None:
            reader.close()

    def _take(self) -> tuple[_Shot, int]:
        if self._reader is None:
            raise SourceLost(f"{self.name} is not open")
        shots, lost = self._reader.take(self._settings.stall_s)
        if not shots:
            raise SourceLost(f"{self.name} gave no picture for {self._settings.stall_s:g} s")
        return shots[-1], lost + len(shots) - 1


class _Camera:
    """The device, for the reader's thread."""

    def __init__(self, settings: SourceSettings, clock: Clock, make_capture: MakeCapture) -> None:
        self._settings = settings
        self._clock = clock
        self._make_capture = make_capture
        self._capture: Any = None
        self._has_clock = False
        self.name = f"camera {settings.camera}"
        self.fps: float | None = None

    def open(self) -> None:
        cv2.setLogLevel(_SILENT)  # its errors are said by ours, in one line
        # V4L2 holds a camera that hangs until this has passed, and 10 s unless told before its first picture.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(max(_START_S, ceil(self._settings.stall_s))))
        self._capture = self._make_capture(self._settings.camera, _APIS[self._settings.backend])
        if not self._capture.isOpened():
            raise SourceError(_why_not(self._settings))
        self._configure()
        backend = self._capture.getBackendName()
        self._has_clock = backend == "V4L2"
        self.name = f"camera {self._settings.camera} ({backend}, {self._format()})"

    def next(self) -> _Shot:
        if not self._capture.grab():
            raise SourceLost(f"{self.name} has stopped; is it still plugged in?")
        now = self._clock()
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self._has_clock else NAN
        if not 0 <= now - stamp <= _PLAUSIBLE_AGE_S:
            stamp = NAN
        is_whole, image = self._capture.retrieve()
        return _Shot(now if isnan(stamp) else stamp, stamp, image if is_whole else None)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()

    def _configure(self) -> None:
        wanted = self._settings
        # The reader empties the queue at once, so it adds no delay. Not 1: OpenCV gives a buffer back at the next grab
        # only, and until then the driver would have none to fill.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)
        self._ask(wanted)
        if wanted.fps is not None and self._rate() < wanted.fps:
            # USB 2 carries more than 640x480 at full rate compressed only, and drivers start with raw pictures.
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            self._ask(wanted)
        self.fps = self._rate() or None

    def _ask(self, wanted: SourceSettings) -> None:
        for key, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, wanted.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height),
            (cv2.CAP_PROP_FPS, wanted.fps),
        ):
            if value is not None:
                self._capture.set(key, value)

    def _rate(self) -> float:
        return max(0.0, float(self._capture.get(cv2.CAP_PROP_FPS)))

    def _format(self) -> str:
        width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        given = f"{width}x{height} at {self.fps:g} fps" if self.fps else f"{width}x{height}"
        wanted = self._settings
        refused = [
            f"{name} {asked:g}"
            for name, asked, got in (
                ("width", wanted.width, width),
                ("height", wanted.height, height),
                ("fps", wanted.fps, self.fps),
            )
            if asked is not None and (got is None or abs(asked - got) > 0.5)
        ]
        return given + (f"; refused {', '.join(refused)}" if refused else "")


def _why_not(settings: SourceSettings) -> str:
    number, backend = settings.camera, settings.backend
    built = [name for name, api in _APIS.items() if api in (cv2.CAP_ANY, *cv2.videoio_registry.getCameraBackends())]
    if backend not in built:
        return f"source.backend {backend} is not in this OpenCV; choose {' or '.join(built)}"
    if sys.platform == "linux":
        node = f"/dev/video{number}"
        if not os.path.exists(node):
            return f"there is no camera {number} ({node} is missing); plug one in, or see psm-doctor for those found"
        if not os.access(node, os.R_OK | os.W_OK):
            return f"camera {number}: no permission for {node}; add your user to the group 'video' and log in again"
    return f"camera {number} cannot be opened; is it plugged in, and not in use by another program? See psm-doctor"
