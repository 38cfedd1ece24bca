"""Labels: which action units each frame of a recording shows, from whatever says so.

`read_labels` takes DISFA's files, OpenFace's tables, or the word `blendshapes`. Adding a kind is a function and a line
in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.gather import RECORD_THEM
from psm_adapt.evaluate.blendshape_labels import PROXY_NAMES, proxy_labels
from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.disfa_labels import disfa_tables, is_disfa
from psm_adapt.evaluate.frame_table import matched
from psm_adapt.evaluate.openface_labels import is_openface, openface_tables
from psm_adapt.evaluate.splits import frequent
from psm_stream.errors import AdaptationError

BLENDSHAPES = "blendshapes"


@dataclass(frozen=True, slots=True)
class Coded:
    """The labels of one recording.

    clip: its frames that are labelled, n of them. labels: bool [n, A]. is_frequent: bool [A], the published 2 % rule,
    over everything that was labelled, whether there is a crop of it or not. unlabelled: how many frames of the
    recording have a crop and no label.
    """

    clip: Clip
    labels: NDArray[np.bool_]
    is_frequent: NDArray[np.bool_]
    unlabelled: int = 0


@dataclass(frozen=True, slots=True)
class Coding:
    """The labels of several recordings. units: A names. source: where they are from, for people to read."""

    units: tuple[str, ...]
    source: str
    recordings: tuple[Coded, ...]


Reader: TypeAlias = Callable[[Path, Sequence[Clip]], Coding]


def read_labels(where: str, clips: Sequence[Clip]) -> Coding:
    """Read the labels of some recordings. where: `blendshapes`, or a file or folder of DISFA or OpenFace.

    Raises AdaptationError: there are none, of another kind, or not for these recordings and frames.
    """
    if where == BLENDSHAPES:
        return from_blendshapes(clips)
    place = Path(where)
    if not place.exists():
        raise AdaptationError(f"labels: there is no {place}; give a file, a folder, or the word {BLENDSHAPES}")
    for is_it, read in KINDS.values():
        if is_it(place):
            return read(place, clips)
    raise AdaptationError(
        f"labels: {place} holds neither DISFA's SN001/SN001_au1.txt nor OpenFace's .csv; give one of these, or the "
        f"word {BLENDSHAPES}"
    )


def from_blendshapes(clips: Sequence[Clip]) -> Coding:
    """Make proxies of the blendshapes in the store, by the median of each recording.

    Frames in which the Face Landmarker found no face are not labelled.
    Raises AdaptationError: a store has no blendshapes, or a recording has none.
    """
    return Coding(PROXY_NAMES, "proxies from Face Landmarker blendshapes", tuple(_proxies(clip) for clip in clips))


def _proxies(clip: Clip) -> Coded:
    if clip.store.blendshapes is None:
        raise AdaptationError(
            f"crop store {clip.store.folder} has no blendshapes; make one with psm-adapt crops --landmarker, "
            f"or record sessions with {RECORD_THEM}"
        )
    blendshapes = np.asarray(clip.store.blendshapes[clip.rows])
    is_there = ~np.isnan(blendshapes).any(axis=1)
    if not is_there.any():
        raise AdaptationError(
            f"recording {clip.name!r} of crop store {clip.store.folder} has no blendshapes in any frame; leave it out, "
            f"or make the store anew with psm-adapt crops --landmarker; record sessions with {RECORD_THEM}"
        )
    labels = proxy_labels(blendshapes[is_there])
    return Coded(clip.only(is_there), labels, frequent(labels), int(np.count_nonzero(~is_there)))


def _from_disfa(place: Path, clips: Sequence[Clip]) -> Coding:
    units, tables = disfa_tables(place, clips)
    coded = (Coded(*matched(table, clip)) for table, clip in zip(tables, clips, strict=True))
    return Coding(units, f"DISFA's files in {place}, intensity above 1", tuple(coded))


def _from_openface(place: Path, clips: Sequence[Clip]) -> Coding:
    units, tables = openface_tables(place, clips)
    coded = (Coded(*matched(table, clip)) for table, clip in zip(tables, clips, strict=True))
    return Coding(units, f"OpenFace's tables in {place}, intensity above 1", tuple(coded))


KINDS: Mapping[str, tuple[Callable[[Path], bool], Reader]] = MappingProxyType(
    {"disfa": (is_disfa, _from_disfa), "openface": (is_openface, _from_openface)}
)
"""Kind: what tells whether a place holds it, and what reads it."""
