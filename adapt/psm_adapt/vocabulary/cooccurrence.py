"""Which tokens stand near which, counted over many tracks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

WINDOW = 10


def cooccurrences(tracks: Iterable[NDArray[np.int64]], size: int, window: int = WINDOW) -> NDArray[np.float64]:
    """Count pairs of tokens that stand at most `window` places apart in one track.

    Every pair weighs the same, whatever its distance, and counts in both directions: so a token near itself counts
    twice on the diagonal, as in the published counts. (Stanford's program weighs by 1/distance.)

    Args:
        tracks: Each [n] numbers of tokens, 0..size-1.
        size: How many tokens there are.
        window: How far is near.

    Returns [size, size], symmetric.
    """
    counts = np.zeros(size * size, np.int64)
    for track in tracks:
        for apart in range(1, min(window, len(track) - 1) + 1):
            pairs = track[:-apart] * size + track[apart:]
            np.add.at(counts, pairs, 1)
    square = counts.reshape(size, size)
    return (square + square.T).astype(np.float64)
