"""Looking at a recording: each frame becomes an aligned crop, by the live path's own sources and aligner."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.columns import CROP_PX, LANDMARKS
from psm_adapt.data.layouts import RecordingSource
from psm_adapt.data.store import Making
from psm_stream.align import Aligner, open_aligner, template
from psm_stream.align.tracks import box_of, same_place
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.record.reader import Session
from psm_stream.record.session import read_info
from psm_stream.sources import SOURCES, Skipped
from psm_stream.sources.images import image_files
from psm_stream.values import NAN, AlignedFace, Faces, Frame, Image, NoFace, Stamp

AS_IS = "as-is"
LONG_AWAY_S = 1.0
"""A face that comes back after more than this begins a new segment."""
SAME_FACE = 0.1
"""Two aligners mean one face when their landmarks lie less than this share of its width apart, on average."""

_DEFAULT_FPS = 30.0
_NUMBER = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True, slots=True)
class Looked:
    """One crop, as a row of a store. landmarks: [478, 2] px of the crop. blendshapes: [52] or None."""

    crop: Image
    t: float
    frame_index: int
    landmarks: NDArray[np.float32]
    confidence: float
    blendshapes: NDArray[np.float32] | None
    segment: int


@dataclass(frozen=True, slots=True)
class Look:
    """How to look. landmarker: the Face Landmarker's model file, for blendshapes beside FaceMesh's crops."""

    making: Making
    landmarker: Path | None = None


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is to look at. fps: nominal. frames: how many will be looked at. None: unknown."""

    fps: float | None
    frames: int | None


def look_at(source: RecordingSource, look: Look) -> Iterator[Looked | None]:
    """Give each frame that is looked at: a crop, or None without a face. Of several faces the largest is taken.

    Raises SourceError, SessionError: the recording cannot be read, or not to its end. AlignError: mediapipe refused.
    """
    if source.kind == "session":
        yield from _Rows().of(_recorded(source, look.making))
    elif look.making.template == AS_IS:
        yield from _as_they_are(source, look.making)
    else:
        yield from _Rows().of(_aligned(source, look))


def extent(source: RecordingSource, making: Making) -> Extent:
    """Say how much there will be to look at, as far as that can be told without looking."""
    fps, frames = _rate_and_length(source)
    if frames is not None:
        frames = -(-frames // making.every)
        frames = frames if making.frames is None else min(frames, making.frames)
    return Extent(fps, frames)


def aligner_of(source: RecordingSource, look: Look) -> str:
    """Return what aligns or aligned a recording, by the names that store.json has for it. Raises SessionError."""
    if source.kind == "session":
        settings = read_info(source.path).config.get("aligner")
        if not isinstance(settings, dict):
            return ""
        return "landmarker" if settings.get("model") is not None else str(settings.get("name", ""))
    if look.making.template == AS_IS:
        return AS_IS
    return "facemesh" if look.landmarker is None else "facemesh+landmarker"


def same_face(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Tell whether two sets of landmarks [478, 2], px of one frame, are of one face."""
    apart = float(np.linalg.norm(one - other, axis=1).mean())
    return apart < SAME_FACE * float(np.ptp(one[:, 0]))


def _rate_and_length(source: RecordingSource) -> tuple[float | None, int | None]:
    """Return frames a second and the number of frames, None where unknown."""
    if source.kind == "session":
        finish = read_info(source.path).finished
        return None, None if finish is None else finish.inputs
    if source.kind == "images":
        return source.fps or _DEFAULT_FPS, len(image_files(source.path))
    try:
        with av.open(os.path.abspath(source.path)) as container:
            stream = container.streams.best("video")
            rate = stream.average_rate or stream.guessed_rate
            seconds = container.duration / av.time_base if container.duration else None
            fps = float(rate) if rate else None
            return fps, stream.frames or (round(seconds * fps) if seconds and fps else None)
    except (av.FFmpegError, OSError, AttributeError):  # AttributeError: it has no video stream
        return None, None  # looking at it says what is wrong


@dataclass(frozen=True, slots=True)
class _Picture:
    """A frame to look at. t: its own time, s, never before the one before."""

    index: int
    t: float
    image: Image


class _Rows:
    """Makes rows of faces, and tells where a new segment begins: another face id, a jump, or a long absence."""

    def __init__(self) -> None:
        self._segment = -1
        self._last: AlignedFace | None = None
        self._last_t = 0.0
        self._was_missed = False

    def of(self, seen: Iterator[tuple[AlignedFace | None, int, float]]) -> Iterator[Looked | None]:
        for face, index, t in seen:
            if face is None:
                self._was_missed = True
                yield None
            else:
                self._segment += self._is_new(face, t)
                self._last, self._last_t, self._was_missed = face, t, False
                yield _row(face, index, t, self._segment)

    def _is_new(self, face: AlignedFace, t: float) -> bool:
        last = self._last
        if last is None or face.face_id != last.face_id:
            return True
        if self._was_missed and t - self._last_t > LONG_AWAY_S:
            return True
        return not same_place(box_of(face.landmarks), box_of(last.landmarks))


def _row(face: AlignedFace, index: int, t: float, segment: int) -> Looked:
    crop, to_crop = face.crop, face.to_crop
    if crop.shape[0] != CROP_PX:  # a session recorded with another aligner.size_px
        scale = CROP_PX / crop.shape[0]
        # pixel centres are whole numbers, so what is scaled is the distance from the image's edge at -0.5
        to_crop = (to_crop * scale).astype(np.float32)
        to_crop[:, 2] += (scale - 1) / 2
        crop = _resized(crop)
    landmarks = template.to_crop_px(face.landmarks, to_crop)
    return Looked(crop, t, index, landmarks, face.confidence, face.blendshapes, segment)


def _aligned(source: RecordingSource, look: Look) -> Iterator[tuple[AlignedFace | None, int, float]]:
    with ExitStack() as stack:
        mesh = stack.enter_context(closing(open_aligner(AlignerSettings(size_px=CROP_PX))))
        second = None
        if look.landmarker is not None:
            settings = AlignerSettings(name="landmarker", model=look.landmarker, size_px=CROP_PX)
            second = stack.enter_context(closing(open_aligner(settings)))
        for picture in stack.enter_context(closing(_pictures(source, look.making))):
            frame = Frame(Stamp(picture.index, picture.t, picture.t), picture.image)
            face = _largest(mesh, frame)
            if second is not None:
                face = _with_blendshapes(face, _largest(second, frame))
            yield face, picture.index, picture.t


def _largest(aligner: Aligner, frame: Frame) -> AlignedFace | None:
    """Return the face with the lowest id: an aligner gives ids to new faces by size."""
    sighting = aligner(frame)
    return sighting.faces[0] if isinstance(sighting, Faces) else None


def _with_blendshapes(face: AlignedFace | None, other: AlignedFace | None) -> AlignedFace | None:
    """Return `face` with the blendshapes that the Face Landmarker gives the same face; NaN if it found none there."""
    if face is None:
        return None
    if other is None or not same_face(face.landmarks, other.landmarks):
        return face
    return replace(face, blendshapes=other.blendshapes)


def _recorded(source: RecordingSource, making: Making) -> Iterator[tuple[AlignedFace | None, int, float]]:
    """Give the crops of a recorded session, which were aligned when it was recorded."""
    session = Session(source.path)
    began, last = session.info.started.monotonic, 0.0
    frames = (entry for entry in session.inputs() if isinstance(entry, Faces | NoFace))
    for n, sighting in enumerate(frames):
        if n % making.every:
            continue
        if making.frames is not None and n // making.every >= making.frames:
            return
        stamp = sighting.frame
        t = stamp.t_capture - began if np.isnan(stamp.t_source) else stamp.t_source
        last = max(t, last)
        yield (sighting.faces[0] if isinstance(sighting, Faces) else None), stamp.index, last


def _as_they_are(source: RecordingSource, making: Making) -> Iterator[Looked]:
    nowhere = np.full((LANDMARKS, 2), NAN, np.float32)
    with closing(_pictures(source, making)) as pictures:
        for picture in pictures:
            height, width = picture.image.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            crop = _resized(picture.image[top : top + side, left : left + side])
            yield Looked(crop, picture.t, picture.index, nowhere, NAN, None, segment=0)


def _pictures(source: RecordingSource, making: Making) -> Generator[_Picture, None, None]:
    """Give every `making.every`-th picture of a video or an image folder, `making.frames` at most."""
    is_video = source.kind == "video"
    fps = None if is_video else source.fps or _DEFAULT_FPS
    numbers = [] if is_video else _numbers(source)
    settings = SourceSettings(kind="file" if is_video else "images", path=str(source.path), fps=fps)
    reader = SOURCES[settings.kind](settings, lambda: 0.0)
    looked_at, position, last = 0, 0, 0.0
    with closing(reader):
        reader.open()
        while making.frames is None or looked_at < making.frames:
            picture = reader.read()
            if picture is None:
                return
            if isinstance(picture, Skipped):
                position += picture.count
                continue
            if position % making.every == 0:
                index = numbers[position] if numbers else position
                t = (index - numbers[0]) / (fps or _DEFAULT_FPS) if numbers else picture.t_source
                last = max(t, last)  # a file's time stamps may go back
                yield _Picture(index, last, picture.image)
                looked_at += 1
            position += 1


def _numbers(source: RecordingSource) -> Sequence[int]:
    """Return the frame numbers that the images' names end in; nothing where they have none, or go back."""
    if not source.is_numbered:
        return []
    found = [_NUMBER.search(file.stem) for file in image_files(source.path)]
    numbers = [int(match[1]) for match in found if match]
    grow = len(numbers) == len(found) and all(a < b for a, b in pairwise(numbers))
    return numbers if grow else []


def _resized(crop: Image) -> Image:
    """Bring a square crop to 128 px: by an area filter from a larger one, else by linear interpolation."""
    if crop.shape[0] == CROP_PX:
        return np.ascontiguousarray(crop)
    how = cv2.INTER_AREA if crop.shape[0] > CROP_PX else cv2.INTER_LINEAR
    resized: Image = cv2.resize(crop, (CROP_PX, CROP_PX), interpolation=how)
    return resized
