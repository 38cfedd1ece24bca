"""Temporal ranking: of eleven frames after an anchor, each farther in time is to lie farther in the code.

Source: Lu, Tavabi, Soleymani, "Self-supervised learning for facial action unit recognition through temporal
consistency", BMVC 2020: the sum over n = 1..10 of max(0, d(x_(n-1), a) - d(x_n, a) + 0.03), averaged over the batch, on
codes of length 1. The paper measures d as Euclidean distance, the authors' code as its square; both are offered.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

FRAMES = 12
"""The anchor, its neighbour, and ten frames `spacing` apart."""
MARGIN = 0.03


def temporal_ranking(codes: Tensor, is_squared: bool = False) -> Tensor:
    """Return the loss of codes [B, 12, D]: anchor first, then in order of time. is_squared: as in the authors' code."""
    codes = functional.normalize(codes, dim=-1)
    squared = (codes[:, 1:] - codes[:, :1]).square().sum(-1)
    distance = squared if is_squared else (squared + 1e-12).sqrt()
    return functional.relu(distance[:, :-1] - distance[:, 1:] + MARGIN).sum(1).mean()


def sequence_of(anchor: int, spacing: int) -> NDArray[np.int64]:
    """Return the rows of one sequence: t, t + 1, then t + 1 + spacing n for n = 1..10."""
    return np.concatenate([[anchor], anchor + 1 + spacing * np.arange(FRAMES - 1)])


def anchors_of(segment_length: int, spacing: int) -> int:
    """Return how many anchors a segment of so many consecutive frames has; 0 if it is too short."""
    return max(0, segment_length - 1 - spacing * (FRAMES - 2))


def as_sequences(codes: Tensor) -> Tensor:
    """View codes [B * 12, D] as sequences [B, 12, D]. torch.Size mismatches raise RuntimeError."""
    return torch.unflatten(codes, 0, (-1, FRAMES))
