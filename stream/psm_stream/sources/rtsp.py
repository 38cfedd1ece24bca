"""A network camera or other RTSP stream, by PyAV."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator, Sequence
from math import isnan
from typing import Any, NamedTuple

import av

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError, SourceLost
from psm_stream.redact import name_of, redact
from psm_stream.sources import Clock, Picture, Skipped
from psm_stream.sources.decoding import RgbConverter, use_threads
from psm_stream.sources.reader import Reader
from psm_stream.values import NAN

_OPEN_S = 5.0
# A stream that worked is tried again for less long, so that its return is soon noticed.
_REOPEN_S = 2.0
# A thread that was left behind in FFmpeg ends by itself so much later.
_GRACE_S = 1.0
# The longest wait for a key frame: cameras send one every 1 to 4 s, some every 10 s.
_NO_PICTURE_S = 15.0
# Over a minute at 30 fps; the capture thread takes them as they come, so this is only ever full if it is suspended.
_ROOM_PACKETS = 2000
# With a longer backlog than this the decoder cannot keep up, and skips to the newest key frame.
_BACKLOG_S = 1.0
# More than an H.264 or HEVC decoder may hold back for reordering.
_HELD_BACK = 32
# FFmpeg finds the end of such a picture when the next one begins.
_ENDS_WITH_THE_NEXT = {"h264", "hevc", "mpeg4"}


class Arrival(NamedTuple):
    """A compressed picture. t: when its first bytes came in."""

    t: float
    packet: Any


class RtspSource:
    """Live pictures of one stream, the newest only.

    A thread takes packets off the network as they come and notes when; what waits is decoded at once and only the
    newest of it is given, so that neither a reconnection nor a slow moment leaves a lag behind. Time of capture is when
    the picture's first bytes came in. For H.264 and HEVC a picture is complete here only when the next one begins: one
    frame interval that shows in the measured latency.
    """

    is_live = True

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self.name = name_of(settings.rtsp)
        self.fps: float | None = None
        self._settings = settings
        self._clock = clock
        self._open_s = _OPEN_S
        self._reader: Reader[Arrival] | None = None
        self._decoder: Any = None
        self._converter = RgbConverter()
        self._ready: deque[Picture | Skipped] = deque()
        self._t_arrival: dict[int | None, float] = {}  # by presentation time: with B-frames the order is another
        self._t_picture = NAN
        self._first_s = NAN

    def open(self) -> None:
        """Connect and wait for the first packet. Raises SourceError: not reached, refused, no access, no stream."""
        if not self._settings.rtsp.lower().startswith(("rtsp://", "rtsps://")):
            raise SourceError(f"{self.name or 'an empty text'} is no RTSP address; it looks like rtsp://HOST:554/PATH")
        began = self._clock()
        device = _Stream(self._settings, self._clock, self._open_s)
        reader = self._reader = Reader(device, _ROOM_PACKETS)
        if not reader.start(self._open_s):
            raise SourceError(_no_answer(self.name, self._open_s, self._settings.transport))
        self._open_s = max(_REOPEN_S, 2 * (self._clock() - began))
        self.fps = device.fps
        self._decoder = device.make_decoder()
        self._ready.clear()
        self._t_arrival.clear()
        self._t_picture = self._clock()
        self._first_s = NAN

    def read(self) -> Picture | Skipped:
        """Wait for the next picture. Raises SourceLost: nothing came for `stall_s`, or the server ended the stream."""
        if not self._ready:
            self._ready.extend(self._decode(*self._take()))
        return self._ready.popleft()

    def close(self) -> None:
        """Hang up. From any thread."""
        reader = self._reader
        if reader is not None:
            reader.close()

    def _take(self) -> tuple[list[Arrival], int]:
        if self._reader is None:
            raise SourceLost(f"{self.name} is not open")
        arrivals, lost = self._reader.take(self._settings.stall_s)
        if not arrivals:
            raise SourceLost(f"{self.name} sent nothing for {self._settings.stall_s:g} s")
        if self._clock() - self._t_picture > max(_NO_PICTURE_S, self._settings.stall_s):
            raise SourceLost(f"{self.name} sends no picture that can be decoded")
        return arrivals, lost

    def _decode(self, arrivals: Sequence[Arrival], lost: int) -> Iterator[Picture | Skipped]:
        wanted = newest_part(arrivals, _BACKLOG_S)
        refused = 0
        frames: list[Any] = []
        for arrival in wanted:
            self._t_arrival[arrival.packet.pts] = arrival.t
            try:
                frames += self._decoder.decode(arrival.packet)
            except av.FFmpegError:
                refused += 0 if isnan(self._first_s) else 1  # before its first key frame nothing can be decoded
        stale = lost + len(arrivals) - len(wanted) + max(0, len(frames) - 1)
        if stale:
            yield Skipped("slot", stale)
        if refused or not frames:
            yield Skipped("decode", refused)
        if frames:
            yield self._picture(frames[-1], self._t_arrival.get(frames[-1].pts, arrivals[-1].t))

    def _picture(self, frame: Any, t_capture: float) -> Picture:
        self._t_picture = self._clock()
        # What came earlier is decoded or lost, but for the few pictures that B-frames hold back.
        while len(self._t_arrival) > _HELD_BACK:
            del self._t_arrival[next(iter(self._t_arrival))]
        t_source = NAN if frame.pts is None else float(frame.pts * frame.time_base)
        if isnan(self._first_s):
            self._first_s = t_source
        return Picture(self._converter.convert(frame), t_capture, t_source - self._first_s)


def newest_part(arrivals: Sequence[Arrival], backlog_s: float) -> Sequence[Arrival]:
    """All of it if it spans `backlog_s` at most, else from its last key frame on, where decoding can start afresh."""
    if not arrivals or arrivals[-1].t - arrivals[0].t <= backlog_s:
        return arrivals
    keys = [index for index, arrival in enumerate(arrivals) if arrival.packet.is_keyframe]
    return arrivals[keys[-1] :] if keys else arrivals


class _Stream:
    """The connection, for the reader's thread."""

    def __init__(self, settings: SourceSettings, clock: Clock, open_s: float) -> None:
        self._settings = settings
        self._clock = clock
        self._open_s = open_s
        self._name = name_of(settings.rtsp)
        self._container: Any = None
        self._stream: Any = None
        self._packets: Iterator[Any] = iter(())
        self._t_before = NAN
        self.fps: float | None = None

    def open(self) -> None:
        # After the reader's limit: FFmpeg calls its own time-outs "invalid data".
        limit_s = self._open_s + _GRACE_S
        options = {
            "rtsp_transport": self._settings.transport,
            "timeout": str(int(limit_s * 1e6)),
            "allowed_media_types": "video",
            "flags": "low_delay",
            # No look ahead for the format: SDP and the stream itself say it. Looking costs up to 1.2 s, and with
            # "fflags nobuffer" also the first key frame, so seconds until the next.
            "analyzeduration": "0",
            "probesize": "32",
        }
        try:
            self._container = av.open(
                self._settings.rtsp, options=options, timeout=(limit_s, self._settings.stall_s + _GRACE_S)
            )
        except (av.FFmpegError, OSError) as error:
            reason = _why_not(error, self._name, self._open_s, self._settings)
        else:
            reason = ""
        if reason:  # raised here, so that FFmpeg's error, which holds the address, is not its context
            raise SourceError(reason)
        self._stream = self._container.streams.best("video")
        if self._stream is None or self._stream.codec_context is None:
            raise SourceError(f"{self._name} has no video that FFmpeg can decode; check the path after the host")
        rate = self._stream.average_rate
        self.fps = float(rate) if rate and rate <= 240 else None
        self._packets = self._container.demux(self._stream)

    def next(self) -> Arrival:
        while True:
            packet = self._receive()
            now = self._clock()
            began, self._t_before = self._t_before, now
            if packet.size:
                is_late = self._stream.codec_context.name in _ENDS_WITH_THE_NEXT and not isnan(began)
                return Arrival(began if is_late else now, packet)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def make_decoder(self) -> Any:
        """A decoder of its own, which outlives the connection: the capture thread may be in it when that closes."""
        described = self._stream.codec_context
        decoder = av.CodecContext.create(described.name, "r")
        decoder.extradata = described.extradata
        use_threads(decoder, 1)
        return decoder

    def _receive(self) -> Any:
        reason = "ended the stream"
        try:
            packet = next(self._packets, None)
        except (av.FFmpegError, OSError) as error:
            packet, reason = None, f"broke off ({redact(str(error.strerror), self._settings.rtsp)})"
        if packet is None:
            raise SourceLost(f"{self._name} {reason}")
        return packet


_REASONS: tuple[tuple[tuple[type, ...], str], ...] = (
    (
        (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError),
        "wants another user name or password; give them as rtsp://USER:PASSWORD@HOST/PATH",
    ),
    (
        (av.error.HTTPNotFoundError,),
        "has no such stream (404); check the path after the host in the camera's manual",
    ),
    (
        (ConnectionRefusedError,),
        "refuses the connection; is the camera on, and host and port right (554 is usual)?",
    ),
    (
        (av.error.InvalidDataError,),
        "answers, but not with a stream; check the port (554 is usual) and the path after the host",
    ),
)


def _why_not(error: OSError, name: str, open_s: float, settings: SourceSettings) -> str:
    for kinds, reason in _REASONS:
        if isinstance(error, kinds):
            return f"{name} {reason}"
    if isinstance(error, TimeoutError | av.error.ExitError):
        return _no_answer(name, open_s, settings.transport)
    if error.errno == errno.EIO:
        return f"{name} is not reached; check the host's name and the network"
    return f"{name} cannot be opened ({redact(str(error.strerror), settings.rtsp)}); check address and network"


def _no_answer(name: str, open_s: float, transport: str) -> str:
    hint = "or let UDP through the firewall, or use source.transport tcp" if transport == "udp" else "and the firewall"
    return f"{name} sends no video within {open_s:.2g} s; check address, network {hint}"
