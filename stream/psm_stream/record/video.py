"""The source video beside the log: Matroska with variable time stamps, written by its own thread.

`h264`: x264, crf 18. `lossless`: x264 in RGB at qp 0, every pixel as captured. Each frame's place in the file is
reported as a `VideoFrame`, so that the log can map frame index to video time.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av

from psm_stream.record.backlog import Backlog, Bound
from psm_stream.record.codec import VideoFrame
from psm_stream.values import Frame, Stamp

VideoKind = Literal["h264", "lossless"]

BOUND = Bound(items=90, size_bytes=128 * 2**20)
"""Three seconds at 30 fps, or 128 MB."""

_GATHER_S = 0.05
_MILLISECONDS = Fraction(1, 1000)
_CONTAINER = {"cluster_time_limit": "200", "flush_packets": "1"}
"""A cluster reaches the file after 0.2 s, so that a killed process loses no more."""

_NOMINAL_FPS = 30


@dataclass(frozen=True, slots=True)
class _Codec:
    name: str
    options: dict[str, str]

    def pixel_format(self, width: int, height: int) -> str:
        if self.name == "libx264rgb":
            return "rgb24"
        return "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"


# zerolatency: a packet for each frame at once, nothing held back that a crash could take
_CODECS: dict[VideoKind, _Codec] = {
    "h264": _Codec("libx264", {"preset": "veryfast", "crf": "18", "tune": "zerolatency"}),
    # half the time of FFV1 at the same size
    "lossless": _Codec("libx264rgb", {"preset": "ultrafast", "qp": "0", "tune": "zerolatency"}),
}


class Timeline:
    """Gives each frame its time in the video, ms from the first frame, always rising.

    Live sources keep their capture times; files keep their own, so that a file read fast plays at its own speed.
    """

    def __init__(self, is_live: bool) -> None:
        self._is_live = is_live
        self._last_t = math.nan
        self._last_step_s = 1 / _NOMINAL_FPS
        self._position_s = 0.0
        self._last_pts_ms = -1

    def pts_ms(self, stamp: Stamp) -> int:
        """Return the presentation time of the next frame."""
        t = stamp.t_capture if self._is_live or math.isnan(stamp.t_source) else stamp.t_source
        if not math.isnan(self._last_t):
            step_s = t - self._last_t
            if step_s > 0:
                self._last_step_s = step_s
            # a file that starts again, or a time that stands still, goes on at the last known step
            self._position_s += self._last_step_s
        self._last_t = t
        self._last_pts_ms = max(self._last_pts_ms + 1, round(self._position_s * 1000))
        return self._last_pts_ms


class VideoTrack:
    """Encodes frames into a file. `put` is for one thread, `close` for whoever ends the recording.

    wait_s: how long `put` waits for room before it drops a frame.
    written: called with each frame's place in the file. trouble: called once, in words, when frames begin to be
    lost. done: called when nothing more will be written. All three are called from the video thread, `trouble` also
    from the one that puts.
    """

    def __init__(
        self,
        path: Path,
        kind: VideoKind,
        *,
        is_live: bool,
        written: Callable[[VideoFrame], None],
        trouble: Callable[[str], None],
        done: Callable[[], None],
        wait_s: float = 0.0,
        bound: Bound = BOUND,
    ) -> None:
        self._path = path
        self._codec = _CODECS[kind]
        self._timeline = Timeline(is_live)
        self._written = written
        self._trouble = trouble
        self._done = done
        self._backlog: Backlog[Frame] = Backlog(bound, wait_s)
        self._dropped: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._has_failed = False
        self._closing = False
        self._offered = 0
        self.frames = 0
        """Frames in the file."""
        self._thread = threading.Thread(target=self._run, name="video", daemon=True)
        self._thread.start()

    def put(self, frame: Frame) -> None:
        """Take a frame; without room it is dropped, counted and said."""
        if self._closing:
            return
        self._offered += 1
        if self._backlog.put(frame, frame.image.nbytes) or self._has_failed or self._closing:
            return
        self._drop("overflow", "video frames are being dropped: encoding or the disk is slower than the source")

    def close(self) -> None:
        """Take no more frames; `done` is called when those that wait are written."""
        self._closing = True
        self._backlog.close()

    def join(self, timeout_s: float | None) -> bool:
        """Wait for the end. Returns whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def dropped(self) -> dict[str, int]:
        """Return how many frames were lost, by cause: overflow, size (the picture changed its size), error."""
        with self._lock:
            lost = dict(self._dropped)
        if self._has_failed:
            lost["error"] = self._offered - self.frames - sum(lost.values())
        return lost

    def _run(self) -> None:
        try:
            self._encode_all()
        except Exception as error:  # whatever it is, it must reach the people; the log goes on without video
            self._has_failed = True
            self._trouble(f"video stopped: {type(error).__name__}: {' '.join(str(error).split())}")
            self._backlog.close()
        finally:
            self._done()

    def _encode_all(self) -> None:
        first = self._next_batch()
        if not first:
            return
        height, width, _ = first[0].image.shape
        with av.open(str(self._path), "w", format="matroska", options=_CONTAINER) as container:
            stream = container.add_stream(self._codec.name, rate=_NOMINAL_FPS, options=self._codec.options)
            stream.width, stream.height = width, height
            stream.pix_fmt = self._codec.pixel_format(width, height)
            stream.codec_context.time_base = _MILLISECONDS
            stream.codec_context.thread_count = 1  # the other core is the pipeline's
            batch = first
            while batch:
                for frame in batch:
                    self._encode(frame, container, stream)
                batch = self._next_batch()
            container.mux(stream.encode(None))

    def _next_batch(self) -> list[Frame]:
        """Wait for frames; an empty list means that no more will come."""
        while True:
            is_last = self._backlog.closed
            batch = self._backlog.take(_GATHER_S)
            if batch or is_last:
                return batch

    def _encode(self, frame: Frame, container: av.container.OutputContainer, stream: av.VideoStream) -> None:
        if frame.image.shape[:2] != (stream.height, stream.width):
            height, width = frame.image.shape[:2]
            began = f"the video began with {stream.width}x{stream.height}"
            self._drop("size", f"video frames are being dropped: they are {width}x{height}, {began}")
            return
        picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
        picture.pts = self._timeline.pts_ms(frame.stamp)
        picture.time_base = _MILLISECONDS
        container.mux(stream.encode(picture))
        self.frames += 1
        self._written(VideoFrame(frame.stamp.index, picture.pts))

    def _drop(self, cause: str, words: str) -> None:
        with self._lock:
            self._dropped[cause] += 1
            is_first = self._dropped[cause] == 1
        if is_first:
            self._trouble(words)
