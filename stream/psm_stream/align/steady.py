"""Steadies the crop of a still face without lagging behind a moving one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from psm_stream.align import template

SLACK = 0.004
"""Share of the crop's side that a steadied crop may lie from the fitted one at most: half a pixel of 128."""


class Steady:
    """An exponential filter on the warp of one face, whose weight grows with the distance it has to go.

    With d the distance between the steadied crop and the new fit (px, the largest over the crop's corners) the step
    is d / (d + c) of the way, so what remains is d * c / (d + c) < c: noise of a tenth of a pixel is averaged over
    many frames, and a face that moves is followed to within c whatever its speed. c is SLACK of the side.
    On stills with fresh sensor noise (2 grey levels) the corner that moves most has a deviation of 0.18 px of 128
    without this and 0.08 px with it (benchmarks/alignment.py). Related: the One Euro filter (Casiez 2012), which bounds
    the lag by tuning instead.
    """

    def __init__(self, size_px: int) -> None:
        self._slack_px = SLACK * size_px
        side = size_px - 1.0
        self._corners = np.array([(0.0, 0.0), (side, 0.0), (0.0, side), (side, side)])
        self._held: NDArray[np.float64] | None = None

    def __call__(self, to_crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the steadied [2, 3] warp for a newly fitted one. A blend of similarities is a similarity."""
        fitted = to_crop.astype(np.float64)
        if self._held is None:
            self._held = fitted
        else:
            distance = self._distance_px(self._held, fitted)
            self._held = self._held + (fitted - self._held) * (distance / (distance + self._slack_px))
        return self._held.astype(np.float32)

    def _distance_px(self, held: NDArray[np.float64], fitted: NDArray[np.float64]) -> float:
        (a, b), (c, d) = fitted[:, :2]
        inverse = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
        source = template.apply(inverse, self._corners - fitted[:, 2])
        moved = template.apply(held[:, :2], source) + held[:, 2] - self._corners
        return float(np.hypot(moved[:, 0], moved[:, 1]).max())
