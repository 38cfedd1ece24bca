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

FILTERS = 32
SCALES = 3
GAIN = 2.4
"""On He's rule. With it and the published weight of 0.01, the term pulls on a drawing about as one pixel term does."""


class RandomFeatures(nn.Module):
    """Images to random features at a half, a quarter and an eighth of their size; a seed always gives the same.

    A filter is 6x6 pixels wide and moves by two. It is computed as a 3x3 filter over blocks of 2x2 pixels, which is the
    same and suits matrix units better.
    """

    filters: Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.randn(FILTERS, 12, 3, 3, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("filters", drawn * (GAIN * math.sqrt(2 / (12 * 9))), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: [N, 3, 64, 64], ImageNet-normalised RGB. Returns [N, 32, 32, 32], [N, 32, 16, 16], [N, 32, 8, 8]."""
        maps = []
        for scale in range(SCALES):
            images = F.avg_pool2d(images, 2) if scale else images
            maps.append(F.relu_(F.conv2d(F.pixel_unshuffle(images, 2), self.filters, padding=1)))
        return maps
