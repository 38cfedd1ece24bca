"""Fixed random filters at three scales: features for the perceptual loss where VGG19's weights cannot be had.

Gram matrices of such features tell textures apart almost as well as VGG19's do, without any training.

Source: Ustyuzhaninov, Brendel, Gatys, Bethge, "What Does It Take to Generate Natural Textures?", ICLR 2017: one layer
of multi-scale random filters. Here the scales come from halving the image, and there are fewer filters, since it must
be cheap beside the light generator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILTERS = 48
SIDE_PX = 5
SCALES = 3


class RandomFeatures(nn.Module):
    """Images to random features at a half, a quarter and an eighth of their size; a seed always gives the same."""

    filters: Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.randn(FILTERS, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("filters", drawn * math.sqrt(2 / (3 * SIDE_PX**2)), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: [N, 3, 64, 64], ImageNet-normalised RGB. Returns [N, 48, 32, 32], [N, 48, 16, 16], [N, 48, 8, 8]."""
        maps = []
        for scale in range(SCALES):
            images = F.avg_pool2d(images, 2) if scale else images
            maps.append(F.relu(F.conv2d(images, self.filters, stride=2, padding=SIDE_PX // 2)))
        return maps
