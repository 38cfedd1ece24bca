"""Temporal ranking: whether a frame farther away in time is also farther away in the embedding.

From an anchor t the frames t+1, then t+1+k, t+1+2k, ... t+1+10k are compared in neighbouring pairs; the accuracy is the
share of pairs whose later frame is farther from the anchor. Chance is 0.5.

Source: Temporal Consistency (Lu, Tavabi, Soleymani, BMVC 2020), its model selection. What differs: many anchors of each
recording instead of one, and every pair counts once (their average counts a last partial batch too little).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.probe import Features

SPACING = 2
"""k: frames from one sample to the next."""
SAMPLES = 10
ANCHORS = 200
"""At most so many in a recording, evenly spaced."""


def ranking_accuracy(features: Features, anchors: NDArray[np.intp], spacing: int = SPACING) -> float:
    """Share of neighbouring pairs in the right order; NaN without anchors.

    features: [N, D], consecutive frames from each anchor on. anchors: positions from `anchors_of`.
    Equal distances are wrong, so that an embedding which never changes scores 0.
    """
    if not len(anchors):
        return float("nan")
    steps = 1 + spacing * np.arange(SAMPLES + 1)
    values = features.astype(np.float64)
    apart = np.linalg.norm(values[anchors[:, None] + steps] - values[anchors][:, None], axis=2)
    return float((np.diff(apart, axis=1) > 0).mean())


def anchors_of(clip: Clip, spacing: int = SPACING) -> NDArray[np.intp]:
    """Find the frames after which 1 + 10 k further ones follow without a gap or a jump of the face."""
    reach = 1 + spacing * SAMPLES
    number, segment = clip.frame_index, np.asarray(clip.store.segment[clip.rows])
    first = np.arange(max(len(number) - reach, 0))
    step = clip.store.about.making.every
    is_whole = (number[first + reach] - number[first] == reach * step) & (segment[first + reach] == segment[first])
    found: NDArray[np.intp] = first[is_whole]
    return found[:: -(-len(found) // ANCHORS) or 1]
