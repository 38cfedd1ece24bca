"""Pairs: which two crops of one face are learned from together, epoch by epoch, as in the published systems.

`PAIRINGS` holds the four published ways; `epoch_pairs` is a function of (approach, tracks, epoch, options) alone. Pairs
are made of the rows of a track: the frames of one person, recording or segment, in order (`tracks`).

Two published defects are mended. Random indices were drawn below n - 1, so that a track's last frame was never used;
here every frame is. numpy's generator was the same in each of twelve loader processes, so that draws came twelve
times; here they are drawn at one place. Two more things differ: the two frames of a drawn pair are never the same one,
and the gap of the curriculum is held within the track (`held_gap`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.store import CropStore
from psm_stream.errors import ConfigError, TrainingError

Rows: TypeAlias = NDArray[np.int64]
"""Rows of a crop store."""

SHORTEST_DRAWN = 4
"""Random pairs are drawn from tracks of so many frames and more: FaceCycle drops those of three and fewer."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """An epoch's pairs, in the order in which they are learned from.

    a, b: int64 [P], rows of the store. is_flip: bool [P]: the second image is the mirrored first one, as it is after
    its augmentation; b then equals a.
    """

    a: Rows
    b: Rows
    is_flip: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.a)


@dataclass(frozen=True, slots=True)
class PairOptions:
    """What can be chosen; the defaults are the published choices.

    redraw: True draws new pairs in each epoch, False keeps those of the first; None is as published (psm: kept, gm and
    gm_ctl: redrawn; psm_ctl draws nothing).
    per_track: pairs a track and epoch in gm and gm_ctl (the authors' list names each person 450 times; VoxCeleb's each
    track once).
    flips: share of pairs whose second image is the mirrored first one; None is as published (gm, gm_ctl: 0.5, else 0).
    seed: of the pairing alone.
    """

    redraw: bool | None = None
    per_track: int = 450
    flips: float | None = None
    seed: int = 912


@dataclass(frozen=True, slots=True)
class _Draw:
    """What a pairing is drawn with. pairs: the generator, made anew for each epoch if pairs are redrawn."""

    epoch: int
    redraw: bool
    options: PairOptions
    pairs: np.random.Generator


@dataclass(frozen=True, slots=True)
class Pairing:
    """One published way to pair. redraw: None where nothing is drawn."""

    make: Callable[[Sequence[Rows], _Draw], tuple[Rows, Rows]]
    redraw: bool | None
    flips: float


def tracks(
    store: CropStore, rows: Rows | None = None, within: Literal["person", "recording", "segment"] = "person"
) -> list[Rows]:
    """Divide rows (all, if None) into tracks, so that no pair crosses from one to another.

    within: a person's rows of all recordings follow each other, as published; or each recording is a track, as in
    VoxCeleb; or each segment, between cuts and jumps of the face. Rows are sorted; tracks come in order of their first.
    """
    chosen = np.arange(len(store)) if rows is None else np.sort(np.asarray(rows, np.int64))
    if within == "person":
        keys = store.person[chosen].astype(np.int64)
    else:
        keys = store.recording[chosen].astype(np.int64) << 32
        if within == "segment":
            keys += store.segment[chosen]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return [chosen[inverse == key] for key in np.argsort(first, kind="stable")]


def epoch_pairs(approach: str, of: Sequence[Rows], epoch: int, options: PairOptions | None = None) -> Pairs:
    """Return an epoch's pairs. approach: a key of PAIRINGS. of: see `tracks`. epoch: from 1.

    Raises ConfigError: there is no such approach, or it draws nothing that could be redrawn. TrainingError: the tracks
    are too short for a single pair.
    """
    pairing, chosen = _pairing(approach), options or PairOptions()
    if chosen.redraw and pairing.redraw is None:
        raise ConfigError(f"{approach} draws no pairs, its gap sets them; leave redraw out")
    redraw = bool(pairing.redraw if chosen.redraw is None else chosen.redraw)
    draw = _Draw(epoch, redraw, chosen, np.random.default_rng([chosen.seed, epoch if redraw else 0, 0]))
    a, b = pairing.make(of, draw)
    if not len(a):
        longest = max(map(len, of), default=0)
        raise TrainingError(f"no pair to learn from: the longest of {len(of)} tracks has {longest} frames; give more")
    share = pairing.flips if chosen.flips is None else chosen.flips
    is_flip = draw.pairs.random(len(a)) < share
    order = np.random.default_rng([chosen.seed, epoch, 1]).permutation(len(a))
    return Pairs(a[order], np.where(is_flip, a, b)[order], is_flip[order])


def published_gap(epoch: int) -> int:
    """Return the curriculum's gap between the frames of a pair, in frames. epoch: from 1.

    2e below epoch 50, 4e below 100, then 5e. Source: PSM with CTL (Tazi, Berger, Freiwald), the authors' code.
    """
    return (2 if epoch < 50 else 4 if epoch < 100 else 5) * epoch


def held_gap(gap: int, frames: int) -> int:
    """Return the gap as a track of so many frames can have it: three quarters of the track at most.

    Unheld, the set of pairs runs empty (485 frames: at epoch 100). Held, a quarter of the frames and more begin a pair.
    The authors' longest run, gap 2500 in 4845 frames, is not touched.
    """
    return min(gap, max(1, 3 * frames // 4))


def _psm(of: Sequence[Rows], draw: _Draw) -> tuple[Rows, Rows]:
    """Shuffle each track and pair what then are neighbours: every frame once, but for an odd one."""
    shuffled = [draw.pairs.permutation(track) if draw.redraw else _as_published(track, draw) for track in of]
    return _joined([(track[0 : len(track) - 1 : 2], track[1::2]) for track in shuffled])


def _as_published(track: Rows, draw: _Draw) -> Rows:
    """Shuffle as the authors do, with Python's generator seeded anew for each person."""
    order = track.tolist()
    random.Random(draw.options.seed).shuffle(order)
    return np.array(order, np.int64)


def _psm_ctl(of: Sequence[Rows], draw: _Draw) -> tuple[Rows, Rows]:
    """Pair each frame with the one `gap` positions later."""
    gaps = [held_gap(published_gap(draw.epoch), len(track)) for track in of]
    return _joined([(track[:-gap], track[gap:]) for track, gap in zip(of, gaps, strict=True)])


def _gm(of: Sequence[Rows], draw: _Draw) -> tuple[Rows, Rows]:
    """Pair two random frames of a track, `per_track` times for each track."""
    rows, starts, lengths = _repeated(of, draw)
    i = draw.pairs.integers(0, lengths)
    j = draw.pairs.integers(0, lengths - 1)
    return rows[starts + i], rows[starts + j + (j >= i)]


def _gm_ctl(of: Sequence[Rows], draw: _Draw) -> tuple[Rows, Rows]:
    """Pair a random frame, never the last, with the one `gap` positions later or the last."""
    rows, starts, lengths = _repeated(of, draw)
    i = draw.pairs.integers(0, lengths - 1)
    j = np.minimum(i + published_gap(draw.epoch), lengths - 1)
    return rows[starts + i], rows[starts + j]


PAIRINGS = {
    "psm": Pairing(_psm, redraw=False, flips=0.0),
    "psm_ctl": Pairing(_psm_ctl, redraw=None, flips=0.0),
    "gm": Pairing(_gm, redraw=True, flips=0.5),
    "gm_ctl": Pairing(_gm_ctl, redraw=True, flips=0.5),
}
"""The published approaches. With transfer they pair alike."""


def _pairing(approach: str) -> Pairing:
    if approach not in PAIRINGS:
        raise ConfigError(f"unknown approach {approach!r}; known: {', '.join(PAIRINGS)}")
    return PAIRINGS[approach]


def _joined(pairs: Sequence[tuple[Rows, Rows]]) -> tuple[Rows, Rows]:
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *(a for a, _ in pairs)]), np.concatenate([empty, *(b for _, b in pairs)])


def _repeated(of: Sequence[Rows], draw: _Draw) -> tuple[Rows, Rows, Rows]:
    """Return all rows, and for each pair to be drawn where its track starts among them and how long it is."""
    long = [track for track in of if len(track) >= SHORTEST_DRAWN]
    lengths = np.array([len(track) for track in long], np.int64)
    starts = np.cumsum(lengths) - lengths
    rows = np.concatenate([np.zeros(0, np.int64), *long])
    return rows, starts.repeat(draw.options.per_track), lengths.repeat(draw.options.per_track)
