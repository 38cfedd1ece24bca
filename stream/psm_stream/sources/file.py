"""A video file, of any kind that FFmpeg reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import av

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError
from psm_stream.redact import name_of
from psm_stream.sources import Clock, Picture, Skipped
from psm_stream.sources.decoding import RgbConverter, use_threads
from psm_stream.values import NAN

_LARGE_PX = 1280 * 720
# Their headers say how long they are; of MPEG streams FFmpeg guesses it from the bit rate.
_FORMATS_WITH_DURATION = {"mov", "matroska", "webm"}


class FileSource:
    """Every picture of a file, in order, upright, with the file's own time from its first picture on.

    A picture that the decoder refuses is skipped (cause "decode"). A file that is cut off is played up to the cut and
    then raises SourceError, so that a short measurement is not taken for a whole one. Pixels are as they are stored:
    a pixel aspect ratio other than 1 is left alone.
    """

    is_live = False

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self.name = name_of(settings.path)
        self.fps: float | None = None
        self._settings = settings
        self._clock = clock
        self._path = Path(settings.path)
        self._container: Any = None
        self._pictures: Iterator[Picture | Skipped] = iter(())

    def open(self) -> None:
        """Raises SourceError: it is missing, empty, a folder, no video, or needs a decoder that is not there."""
        self._check_path()
        self._pictures = self._play()
        self._open_container()

    def read(self) -> Picture | Skipped | None:
        """Decode the next picture; t_capture is when that was done. Raises SourceError: the file breaks off here."""
        return next(self._pictures, None)

    def close(self) -> None:
        """Close the file."""
        self._pictures = iter(())
        if self._container is not None:
            self._container.close()
            self._container = None

    def _check_path(self) -> None:
        if not self._settings.path:
            raise SourceError("no file is given; name one with --source PATH")
        if self._path.is_dir():
            raise SourceError(
                f"{self.name} is a folder; give a video file, or a folder of images with source.kind images"
            )
        if not self._path.exists():
            raise SourceError(f"there is no file {self.name}; check the path")
        if not os.access(self._path, os.R_OK):
            raise SourceError(f"no permission to read {self.name}; change its permissions or copy it")
        if self._path.stat().st_size == 0:
            raise SourceError(f"{self.name} is empty (0 bytes); copy or record it again")

    def _open_container(self) -> None:
        try:
            # An absolute path, as FFmpeg takes a name with a colon for a protocol.
            self._container = av.open(os.path.abspath(self._path))
        except (av.FFmpegError, OSError) as error:
            raise SourceError(
                f"{self.name} cannot be opened as a video ({error.strerror}); "
                "it is damaged, cut off or of another kind: play it elsewhere to check, or convert it"
            ) from None
        stream = self._container.streams.best("video")
        if stream is None:
            raise SourceError(f"{self.name} has no video in it, only {self._kinds()}; give a file with pictures")
        if stream.codec_context is None:
            raise SourceError(f"{self.name}: this FFmpeg has no decoder for its video; convert it to H.264")
        use_threads(stream.codec_context, _decoder_threads(stream.codec_context))
        rate = stream.average_rate or stream.guessed_rate
        self.fps = float(rate) if rate else None

    def _kinds(self) -> str:
        return " and ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"

    def _play(self) -> Iterator[Picture | Skipped]:
        yield from self._play_once()
        while self._settings.loop:
            self._container.close()
            self._open_container()
            yield from self._play_once()

    def _play_once(self) -> Iterator[Picture | Skipped]:
        timeline = _Timeline(self.fps)
        converter = RgbConverter()
        stream = self._container.streams.best("video")
        end_s = 0.0
        for packet in self._demux():
            if packet.pts is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != stream.index:
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield Skipped("decode")
                continue
            for frame in frames:
                yield Picture(converter.convert(frame), self._clock(), timeline.seconds(frame))
        self._check_whole(end_s)

    def _demux(self) -> Iterator[Any]:
        # All streams and not only the video: a file that is cut off lacks the end of every one.
        try:
            yield from self._container.demux()
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self.name} cannot be read further ({error.strerror}); copy it again") from None

    def _check_whole(self, end_s: float) -> None:
        """end_s: when the last packet of any stream ends, in the file's time. Raises SourceError: it is cut off."""
        container = self._container
        if not container.duration or not _FORMATS_WITH_DURATION & set(container.format.name.split(",")):
            return
        promised_s = container.duration / av.time_base
        there_s = end_s - (container.start_time or 0) / av.time_base
        if promised_s - there_s > max(1.0, 0.05 * promised_s):
            raise SourceError(
                f"{self.name} is cut off: it should last {promised_s:.1f} s and ends after {there_s:.1f} s; "
                "everything up to there was played; copy or record it again for the rest"
            )


class _Timeline:
    """Seconds since the first picture. A picture without a time stamp follows the one before at the nominal rate."""

    def __init__(self, fps: float | None) -> None:
        self._step = 1.0 / (fps or 30.0)
        self._first: float = NAN
        self._last: float = NAN

    def seconds(self, frame: Any) -> float:
        if isnan(self._first):
            self._first = 0.0 if frame.pts is None else float(frame.pts * frame.time_base)
            self._last = 0.0
        elif frame.pts is None:
            self._last += self._step
        else:
            self._last = float(frame.pts * frame.time_base) - self._first
        return self._last


def _decoder_threads(codec_context: Any) -> int:
    # On two cores alignment and encoding have use for both; on more, 4K needs several to keep up with its own rate.
    cores = os.cpu_count() or 1
    is_large = codec_context.width * codec_context.height >= _LARGE_PX
    return min(4, cores // 2) if is_large and cores >= 4 else 1
