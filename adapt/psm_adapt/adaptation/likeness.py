"""Likeness: whether faces fall into two groups that are farther apart than one person's faces are.

Each face has a shape (points that mostly ride on the skull, in the crop) and a look (which way edges run, cell by
cell, whatever the light). Both are measured in units of how one person's faces scatter, over people that the weights
were made from (benchmarks/screening_weights.py). Light, glasses and blur change the look and leave the shape; a turned
head changes both, but on a path that other faces of the buffer lie on, too, so that distances are taken relative to the
scatter within each group (Fisher's criterion).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from psm_stream.align import template

POINTS = (
    *(33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358, 48, 278, 10, 151, 9, 8, 127, 356, 234, 454),
    *(93, 323, 21, 251, 54, 284, 103, 332, 67, 297, 109, 338, 162, 389, 116, 345, 50, 280, 70, 300, 46, 276, 105, 334),
    *(55, 285),
)
"""MediaPipe's indices of the eyes' corners, nose, forehead, temples, cheekbones and brows; no mouth, no jaw."""
CLUSTERS = 5
"""Clusters that the faces are divided into before every way to make two groups of them is tried."""

_CROP_PX = 128
_LOOK_PX, _CELLS, _ROWS, _BINS = 48, 6, 5, 6
_EDGELESS = 5.0
"""Grey levels a pixel: cells with weaker edges count less."""
_LUMA = (0.299, 0.587, 0.114)
_STARTS, _ROUNDS = 3, 30
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Measure:
    """Linear maps after which one person's faces scatter by about 1 in every direction.

    shape: [2 * len(POINTS), a]. look: [180, b].
    """

    shape: Tensor
    look: Tensor


@dataclass(frozen=True, slots=True)
class Groups:
    """The two groups of faces that are farthest apart.

    second: bool [n]. shape, look: distance of their means, in deviations of one person's faces. apart: their product.
    """

    second: NDArray[np.bool_]
    shape: float
    look: float

    @property
    def apart(self) -> float:
        """How far apart they are, all in all."""
        return self.shape * self.look


def shapes(landmarks: NDArray[np.float32]) -> Tensor:
    """Where the points lie in the crop. landmarks: [n, 478, 2] px, any frame. Returns float32 [n, 2 * len(POINTS)]."""
    chosen = list(POINTS)
    placed = [template.to_crop_px(face[chosen], template.fit(face, _CROP_PX)) for face in landmarks]
    return torch.from_numpy(np.stack(placed).reshape(len(landmarks), -1)).float()


def looks(crops: NDArray[np.uint8]) -> Tensor:
    """Which way edges run in each of 5x6 cells, the chin left out. crops: [n, S, S, 3] RGB. Returns [n, 180].

    Each cell is divided by the strength of edges around it. Source: Dalal, Triggs, CVPR 2005, in coarse.
    """
    return torch.cat(
        [_looks(torch.from_numpy(np.array(some))) for some in np.array_split(crops, max(1, len(crops) // 64))]
    )


def two_groups(shape: Tensor, look: Tensor, measure: Measure, least: int) -> Groups | None:
    """Divide faces into the two groups of at least `least` that are farthest apart; None where there are no such.

    shape: [n, 102]. look: [n, 180]. The result depends on nothing else, not even on the order but for rounding.
    """
    parts = [
        ((given - given.mean(0)) @ to.to(given.dtype)).double()
        for given, to in ((shape, measure.shape), (look, measure.look))
    ]
    joined = torch.cat([part / part.shape[1] ** 0.5 for part in parts], 1)
    cluster = _clusters(joined, CLUSTERS)
    best: Groups | None = None
    for bits in range(1, 2 ** (CLUSTERS - 1)):
        second = (bits >> cluster) & 1 == 1
        if min(int(second.sum()), int((~second).sum())) < max(least, 2):
            continue
        found = Groups(second.numpy(), _distance(parts[0], second), _distance(parts[1], second))
        if best is None or found.apart > best.apart:
            best = found
    return best


def measure_of(shape: list[Tensor], look: list[Tensor]) -> Measure:
    """Make the maps from recordings of several people. shape: each [n, 102]. look: each [n, 180]."""
    return Measure(_whitening(shape, 50), _whitening(look, 60))


def _whitening(recordings: list[Tensor], kept: int) -> Tensor:
    """Map to the `kept` directions of most variance, and there to unit scatter within a recording, with a ridge."""
    within = torch.stack([recording.double().T.cov() for recording in recordings]).mean(0)
    between = torch.stack([recording.double().mean(0) for recording in recordings]).T.cov()
    directions = torch.linalg.eigh(within + between).eigenvectors.flip(1)[:, :kept]
    inner = directions.T @ within @ directions
    inner += 0.1 * inner.trace() / kept * torch.eye(kept, dtype=inner.dtype)
    to: Tensor = directions @ torch.linalg.cholesky(torch.linalg.inv(inner))
    return to.float()


def _looks(crops: Tensor) -> Tensor:
    """crops: uint8 [n, S, S, 3]."""
    grey = (crops.float() @ torch.tensor(_LUMA))[:, None]
    images = F.interpolate(grey, (_LOOK_PX, _LOOK_PX), mode="area")
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    smooth, step = images.new_tensor([1.0, 2.0, 1.0]), images.new_tensor([-1.0, 0.0, 1.0])
    filters = torch.stack([torch.outer(smooth, step), torch.outer(step, smooth)])[:, None]
    across, down = F.conv2d(padded, filters).unbind(1)
    strength, turn = torch.hypot(across, down), torch.atan2(down, across).remainder(torch.pi) / torch.pi * _BINS
    away = (turn[:, None] - torch.arange(_BINS)[:, None, None]).abs()
    votes = (1 - torch.minimum(away, _BINS - away)).clamp(min=0) * strength[:, None]
    cells = F.avg_pool2d(votes, _LOOK_PX // _CELLS)
    around = F.avg_pool2d(cells, 3, 1, 1, count_include_pad=False).norm(dim=1, keepdim=True)
    levelled: Tensor = cells / (around + _EDGELESS)
    return levelled[:, :, :_ROWS].flatten(1)


def _distance(values: Tensor, second: Tensor) -> float:
    """Distance of the groups' means, in deviations: one person's (1) and the groups' own together. [n, D], [n]."""
    groups = values[second], values[~second]
    scatter = sum((len(group) - 1) * group.T.cov() for group in groups) / len(values)
    between = groups[0].mean(0) - groups[1].mean(0)
    noise = scatter + torch.eye(len(between), dtype=values.dtype)
    return float((between @ torch.linalg.solve(noise, between)).sqrt())


def _clusters(values: Tensor, count: int) -> Tensor:
    """k-means, the best of a few starts. values: [n, D]. Returns [n]: 0..count - 1."""
    source = torch.Generator().manual_seed(0)
    best, lowest = torch.zeros(len(values), dtype=torch.long), float("inf")
    for _ in range(_STARTS):
        centres = values[torch.randint(len(values), (1,), generator=source)]
        while len(centres) < count:  # k-means++
            away = torch.cdist(values, centres).amin(1).square() + 1e-12
            centres = torch.cat((centres, values[torch.multinomial(away, 1, generator=source)]))
        for _ in range(_ROUNDS):
            near = torch.cdist(values, centres).argmin(1)
            counts = torch.bincount(near, minlength=count).clamp(min=1)[:, None]
            moved = torch.zeros_like(centres).index_add_(0, near, values) / counts
            if torch.allclose(moved, centres):
                break
            centres = moved
        cost = float(torch.cdist(values, centres).amin(1).square().sum())
        if cost < lowest:
            best, lowest = torch.cdist(values, centres).argmin(1), cost
    return best
