"""Labels by frame number, and matching them with the frames of a recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.splits import frequent
from psm_stream.errors import AdaptationError

MOST_MISSING = 0.01
"""Share of frames that may lack a label, or labels that may lack a frame: videos are cut a little differently."""
ABOVE = 1.0
"""An action unit is on when its intensity, 0..5, exceeds this. Source: PSM, Temporal Consistency."""


@dataclass(frozen=True, slots=True)
class FrameTable:
    """What a file says. source: its name. numbers: [M], frames counted from 1, increasing. labels: bool [M, A].

    is_sure: bool [M], whether a frame is labelled at all.
    """

    source: str
    numbers: NDArray[np.int64]
    labels: NDArray[np.bool_]
    is_sure: NDArray[np.bool_]


def matched(table: FrameTable, clip: Clip) -> tuple[Clip, NDArray[np.bool_], NDArray[np.bool_], int]:
    """Match labels with frames by their numbers.

    A video's first frame is number 1. Images that are numbered keep their numbers, unless they begin at 0.
    Returns what `Coded` holds. Raises AdaptationError: more than 1 % of the frames have no label, or the labels are of
    a recording of another length.
    """
    numbers = clip.frame_index + _first_number(clip)
    at = np.clip(np.searchsorted(table.numbers, numbers), 0, len(table.numbers) - 1)
    is_found = table.numbers[at] == numbers
    _check_found(table, clip, numbers[~is_found])
    _check_length(table, clip)
    is_labelled = is_found & table.is_sure[at]
    if not is_labelled.any():
        raise AdaptationError(f"{table.source}: no frame of recording {clip.name!r} has a sure label")
    labels = table.labels[at[is_labelled]]
    unlabelled = int(np.count_nonzero(~is_labelled))
    return clip.only(is_labelled), labels, frequent(table.labels[table.is_sure]), unlabelled


def _first_number(clip: Clip) -> int:
    """What to add to frame numbers, so that they count from 1."""
    begins_at_0 = int(clip.store.frame_index[clip.recording.start]) == 0
    return int(clip.recording.kind != "images" or begins_at_0)


def _check_found(table: FrameTable, clip: Clip, missing: NDArray[np.int64]) -> None:
    if len(missing) > MOST_MISSING * len(clip):
        raise AdaptationError(
            f"{table.source} has no label for {len(missing)} of {len(clip)} frames of recording {clip.name!r}, the "
            f"first is frame {missing[0]}; it labels {table.numbers[0]} to {table.numbers[-1]}, of another video?"
        )


def _check_length(table: FrameTable, clip: Clip) -> None:
    """Compare lengths, where the recording was looked at whole."""
    making, recording = clip.store.about.making, clip.recording
    if making.frames is None and making.every == 1 and recording.kind == "video":
        excess = len(table.numbers) - recording.looked_at
        if excess > max(MOST_MISSING * recording.looked_at, 1):
            raise AdaptationError(
                f"{table.source} labels {len(table.numbers)} frames, recording {clip.name!r} has "
                f"{recording.looked_at}; these are the labels of another video, or it was cut"
            )
