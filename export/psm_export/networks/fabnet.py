"""FAb-Net's encoder: a face as 256 numbers, or as many as a released file's last layer gives.

Source: Wiles, Koepke, Zisserman, "Self-supervised learning of a facial attribute embedding from video", BMVC 2018; the
network from its layer table. Keys are those of the authors' `encoder`.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

LEAK = 0.2
"""Slope of LeakyReLU below zero."""
FACE_PX = 256
CODE = 256
WIDTHS = (32, 64, 128, 256, 256, 256, 256)
"""Output channels of the convolutions before the last."""


def halving(into: int, out: int) -> nn.Conv2d:
    """A 4x4 convolution that halves the size."""
    return nn.Conv2d(into, out, 4, 2, 1)


class FabNet(nn.Module):
    """Face to embedding; 4,887,904 parameters with 256 numbers. code: how many numbers."""

    def __init__(self, code: int = CODE) -> None:
        super().__init__()
        layers: list[nn.Module] = [halving(3, WIDTHS[0])]
        for into, out in pairwise(WIDTHS):
            layers += [nn.LeakyReLU(LEAK), halving(into, out), nn.BatchNorm2d(out)]
        self.encoder = nn.Sequential(*layers, nn.LeakyReLU(LEAK), halving(WIDTHS[-1], code))

    def forward(self, images: Tensor) -> Tensor:
        """images: [N, 3, 256, 256] RGB, 0..1. Returns embeddings [N, code], without bounds."""
        embeddings: Tensor = self.encoder(images).flatten(1)
        return embeddings
