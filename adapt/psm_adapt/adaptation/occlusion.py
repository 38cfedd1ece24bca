"""Occlusion: a tiny network that scores how much a face looks as if a hand, or a thing, were held before it.

It learned from real faces with hands drawn over them (benchmarks/screening_weights.py), 36,025 weights. Its scores are
log odds of that training, not calibrated for a person: beards and glasses raise all of a person's scores alike, which
is why `screening` compares them with each other, too.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

SEEN_PX = 32
_AT_ONCE = 256
_FLAT = 8.0
"""Grey levels: an image of less contrast is not stretched further."""


class OcclusionNetwork(nn.Module):
    """Faces to scores."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()),
            *(nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 16, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(16 * 64, 24), nn.ReLU(), nn.Linear(24, 1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """images: [n, 3, 32, 32] from `prepared`. Returns [n] log odds."""
        scores: Tensor = self.layers(images)[:, 0]
        return scores


def prepared(crops: Tensor) -> Tensor:
    """Shrink crops and take out light and contrast. crops: uint8 [n, S, S, 3]. Returns float32 [n, 3, 32, 32]."""
    images = F.interpolate(crops.permute(0, 3, 1, 2).float(), (SEEN_PX, SEEN_PX), mode="area")
    centred = images - images.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((1, 2, 3), keepdim=True).sqrt() + _FLAT)


@torch.inference_mode()
def occlusion_scores(network: OcclusionNetwork, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Score faces; higher is more hidden. crops: [n, S, S, 3] RGB. Returns [n]."""
    network.eval()
    parts = torch.split(torch.from_numpy(np.array(crops)), _AT_ONCE)
    scores: NDArray[np.float32] = torch.cat([network(prepared(part)) for part in parts]).numpy()
    return scores
