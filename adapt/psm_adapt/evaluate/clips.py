"""What is evaluated: the recordings of one or several crop stores, or some of their frames, in order of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.store import CropStore, Recording
from psm_stream.errors import AdaptationError

_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of one recording. rows: [n], where they are in the store, in order of time."""

    store: CropStore
    recording: Recording
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """The recording's name."""
        return self.recording.name

    @property
    def person(self) -> str:
        """Who is in it."""
        return self.recording.person

    @property
    def t_s(self) -> NDArray[np.float64]:
        """Time of each frame in the recording, [n] s."""
        return np.asarray(self.store.t[self.rows])

    @property
    def frame_index(self) -> NDArray[np.int64]:
        """Number of each frame in the recording, [n]."""
        return np.asarray(self.store.frame_index[self.rows])

    def only(self, some: NDArray[np.bool_] | NDArray[np.intp]) -> Clip:
        """Return some of its frames, given as a mask or as positions in order."""
        return replace(self, rows=self.rows[some])

    def crops(self) -> Iterator[NDArray[np.uint8]]:
        """Give the crops, [up to 256, 128, 128, 3] uint8 RGB at a time."""
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield self.store.read(self.rows[start : start + _ROWS_AT_ONCE])


def clips_of(stores: Iterable[CropStore]) -> list[Clip]:
    """Return every recording of some stores, whole. Raises AdaptationError: two of them have one name."""
    clips = [
        Clip(store, recording, np.arange(recording.start, recording.start + recording.count))
        for store in stores
        for recording in store.recordings
    ]
    names = [clip.name for clip in clips]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        folders = ", ".join(str(clip.store.folder) for clip in clips if clip.name == twice)
        raise AdaptationError(f"recording {twice!r} is in more than one store ({folders}); give each one once")
    return clips


def people_in(clips: Sequence[Clip]) -> tuple[str, ...]:
    """Everybody, in order of first appearance."""
    return tuple(dict.fromkeys(clip.person for clip in clips))
