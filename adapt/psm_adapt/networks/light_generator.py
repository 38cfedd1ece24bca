"""A small generator with the interface of FaceCycle's, for adaptation on a CPU: a twenty-fifth of the arithmetic.

Own design. The stem learns (no VGG19); features have 48 channels at 32x32 and 96 at 16x16; and what the layers draw is
added to the warped image itself, so that the flow alone gives a sharp face from the first step on. No noise is added.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from psm_adapt.networks.noise import NO_NOISE, Noise
from psm_adapt.networks.vgg import Features
from psm_adapt.networks.warp import warp
from psm_export.networks.layers import LEAK, Residual, conv, leaky

NEAR, FAR, LAST = 48, 96, 12
"""Channels at 32x32, at 16x16, and at 64x64 before the last convolution."""


class LightGenerator(nn.Module):
    """Face and flow to face; 606,168 parameters, all of which learn."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_near = nn.Sequential(conv(3, NEAR, 5, 2), leaky())
        self.stem_far = nn.Sequential(conv(NEAR, FAR, 3, 2), leaky())
        self.body = nn.Sequential(Residual(FAR), Residual(FAR))
        self.up = _doubling(FAR, NEAR)
        self.join = nn.Sequential(conv(2 * NEAR, NEAR), leaky())
        self.up2 = _doubling(NEAR, LAST)
        self.torgb = conv(LAST + 3, 3)
        _init(self)

    def forward(self, images: Tensor, flow: Tensor | None = None, noise: Noise = NO_NOISE) -> Tensor:
        """Draw faces again, deformed along a flow; arguments and result as FaceCycle's generator has them."""
        features = self.stem(images)
        return self.decode(features if flow is None else self.deform(features, flow, noise))

    def stem(self, images: Tensor) -> Features:
        """Features of images [N, 3, 64, 64], ImageNet-normalised RGB."""
        near = self.stem_near(images)
        return Features(images, near, self.stem_far(near))

    def deform(self, features: Features, flow: Tensor, noise: Noise = NO_NOISE) -> Features:
        """Warp the image and its features along flow [N, 2, 16, 16]. noise: not used."""
        del noise
        return Features(*(warp(maps, flow) for maps in features))

    def decode(self, features: Features) -> Tensor:
        """Draw the image of features. Returns [N, 3, 64, 64], normalised space, unbounded."""
        up = self.up(self.body(features.far))
        up = self.up2(self.join(torch.cat((features.near, up), 1)))
        image: Tensor = features.image + self.torgb(torch.cat((up, features.image.to(up.dtype)), 1))
        return image


def _doubling(into: int, out: int) -> nn.Sequential:
    """Twice the size by convolution and pixel shuffle. Source: Shi et al., CVPR 2016."""
    return nn.Sequential(conv(into, 4 * out), nn.PixelShuffle(2), leaky())


@torch.no_grad()
def _init(network: LightGenerator) -> None:
    """He's rule, and a last convolution near zero, so that training starts from the warped image."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, LEAK)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    network.torgb.weight.normal_(0, 0.1 / math.sqrt(9 * (LAST + 3)))
