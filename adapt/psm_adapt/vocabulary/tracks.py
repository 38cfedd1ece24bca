"""Tracks: one face followed through one recording, a few times a second, with what a vocabulary is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.gather import RECORD_THEM
from psm_adapt.evaluate.clips import Clip
from psm_stream.clusters.units import UNIT_NAMES, Source, measure
from psm_stream.encoder import Encoder
from psm_stream.errors import AdaptationError
from psm_stream.values import AlignedFace, Stamp

RATE_HZ = 5.0
"""Published: 5 faces a second."""
CONFIDENCE = 0.9
"""Published: fainter faces are left out. Those of which no confidence is known are taken."""
GAP_S = 1.0
"""A face that was away for longer than this, and its own pause between frames, begins a new track."""

Tell: TypeAlias = Callable[[int], None]
"""Takes how many more faces are done."""


@dataclass(frozen=True, slots=True)
class Track:
    """One face followed. t_s: [n], of the recording. units: [n, U] in the order of UNITS. vectors: [n, D] or None."""

    recording: str
    person: str
    t_s: NDArray[np.float64]
    units: NDArray[np.float32]
    vectors: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.t_s)

    def features(self, of: Literal["embedding", "units"], columns: Sequence[str]) -> NDArray[np.float32]:
        """Return what is clustered, [n, D]: vectors, or the units with these names."""
        if of == "units":
            return self.units[:, [UNIT_NAMES.index(name) for name in columns]]
        if self.vectors is None:
            raise ValueError("the track was not encoded")
        return self.vectors


def source_in(clips: Sequence[Clip]) -> Source:
    """Say what units can be measured from in all of some recordings: blendshapes where every one has them."""
    return "blendshapes" if all(_has_blendshapes(clip) for clip in clips) else "landmarks"


def sampled(clips: Sequence[Clip], rate_hz: float = RATE_HZ) -> list[Clip]:
    """Thin recordings to so many faces a second at most, of faces that are sure, and cut them into tracks.

    Raises AdaptationError: nothing is left.
    """
    cut = [track for clip in clips for track in _tracks(_thinned(clip, rate_hz), rate_hz)]
    if not cut:
        raise AdaptationError(f"no face has a confidence of {CONFIDENCE:g} or more; give other recordings")
    return cut


def read_tracks(clips: Sequence[Clip], source: Source, encoder: Encoder | None, tell: Tell) -> list[Track]:
    """Measure units of each track, and encode its faces where an encoder is given.

    Faces whose units cannot be told at all are left out. Raises AdaptationError: nothing is left.
    """
    tracks = []
    for clip in clips:
        units = units_of(clip, source)
        kept = np.isfinite(units).any(axis=1)
        some = clip.only(kept)
        vectors = None if encoder is None else _encoded(some, encoder, tell)
        if encoder is None:
            tell(len(some))
        if len(some):
            tracks.append(Track(clip.name, clip.person, some.t_s, units[kept], vectors))
    if not tracks:
        raise AdaptationError(f"no face has {source}; give recordings that have, or videos")
    return tracks


def units_of(clip: Clip, source: Source) -> NDArray[np.float32]:
    """Measure action units of each face, [n, U], as the live path does; NaN where they cannot be told.

    Raises AdaptationError: the recording has no blendshapes, and they are the source.
    """
    if source == "blendshapes" and not _has_blendshapes(clip):
        raise AdaptationError(
            f"recording {clip.name!r} of crop store {clip.store.folder} has no blendshapes; "
            "make the store with psm-adapt crops --landmarker, or give the video itself and --landmarker; "
            f"record sessions with {RECORD_THEM}"
        )
    rows = [measure(face) for face in _faces(clip, source)]
    return np.array(rows, np.float32).reshape(len(clip), len(UNIT_NAMES))


def _faces(clip: Clip, source: Source) -> Iterator[AlignedFace]:
    """Give faces without their pictures. A store's landmarks are px of the crop, so the crop is its own source."""
    store = clip.store
    nothing = np.broadcast_to(np.uint8(0), store.crops.shape[1:])
    same = np.eye(2, 3, dtype=np.float32)
    landmarks = np.asarray(store.landmarks[clip.rows])
    blendshapes = None if source == "landmarks" or store.blendshapes is None else store.blendshapes[clip.rows]
    for n, row in enumerate(clip.rows):
        stamp = Stamp(int(store.frame_index[row]), float(store.t[row]))
        shapes = None if blendshapes is None else blendshapes[n]
        yield AlignedFace(stamp, 0, nothing, landmarks[n], same, float(store.confidence[row]), shapes)


def _encoded(clip: Clip, encoder: Encoder, tell: Tell) -> NDArray[np.float32]:
    vectors = []
    for crops in clip.crops():
        vectors += [encoder.encode(crop) for crop in crops]
        tell(len(crops))
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


def _thinned(clip: Clip, rate_hz: float) -> Clip:
    """Keep the first sure face of each 1/rate_hz s."""
    confidence = np.asarray(clip.store.confidence[clip.rows])
    sure = clip.only(~(confidence < CONFIDENCE))
    if not len(sure):
        return sure
    slot = np.floor((sure.t_s - sure.t_s[0]) * rate_hz + 1e-6)  # 0.6 s at 5 a second is slot 3, whatever the float
    return sure.only(np.flatnonzero(np.diff(slot, prepend=-1.0) > 0))


def _tracks(clip: Clip, rate_hz: float) -> list[Clip]:
    if not len(clip):
        return []
    segment = np.asarray(clip.store.segment[clip.rows])
    ends = (np.diff(segment) != 0) | (np.diff(clip.t_s) > GAP_S + 1 / rate_hz)
    return [clip.only(rows) for rows in np.split(np.arange(len(clip)), np.flatnonzero(ends) + 1)]


def _has_blendshapes(clip: Clip) -> bool:
    shapes = clip.store.blendshapes
    return shapes is not None and bool(np.isfinite(shapes[clip.rows]).all(axis=1).any())
