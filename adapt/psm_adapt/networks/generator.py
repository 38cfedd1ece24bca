"""FaceCycle's generator: a face, deformed along a flow and drawn anew. Takes expressions off and puts them on.

Source: Chang, Chen, Chiu, ICCV 2021; keys are those of the authors' `Swap_Generator`. Nothing differs, but that the
features of the stem can be kept and used for several flows, and that the noise can be switched off or seeded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psm_adapt.networks.blocks import Doubling
from psm_adapt.networks.noise import NO_NOISE, Noise
from psm_adapt.networks.vgg import Features, freeze_stem, stem_features, vgg_layer
from psm_adapt.networks.warp import warp
from psm_export.networks.layers import Residual, conv


class Generator(nn.Module):
    """Face and flow to face; 13,409,475 parameters, of which a frozen stem has 555,328.

    Args:
        frozen_stem: The stem keeps its weights, VGG19's, as the authors have it. False: it learns with the rest.
    """

    def __init__(self, frozen_stem: bool = True) -> None:
        super().__init__()
        self.conv1_1 = vgg_layer(3, 64)
        self.conv1_2 = vgg_layer(64, 64)
        self.conv2_1 = vgg_layer(64, 128)
        self.conv2_2 = vgg_layer(128, 128)
        self.conv3_1 = vgg_layer(128, 256)
        if frozen_stem:
            freeze_stem(self)
        self.redconv = nn.Sequential(conv(256, 256), nn.ReLU(inplace=True))
        self.cnn = nn.Sequential(*(Residual(256) for _ in range(8)))
        self.up = _doubling(256, 128)
        self.up2 = _doubling(256, 128)
        self.torgb = conv(128, 3)
        self.noise_encoding1 = _noise_encoding(128)
        self.noise_encoding0 = _noise_encoding(256)

    def forward(self, images: Tensor, flow: Tensor | None = None, noise: Noise = NO_NOISE) -> Tensor:
        """Draw faces again, deformed along a flow.

        Args:
            images: [N, 3, 64, 64], ImageNet-normalised RGB.
            flow: [N, 2, 16, 16], grid units. None: as they are; then no noise is added either.
            noise: Where the noise comes from.

        Returns: [N, 3, 64, 64] in the normalised space, unbounded.
        """
        features = self.stem(images)
        return self.decode(features if flow is None else self.deform(features, flow, noise))

    def stem(self, images: Tensor) -> Features:
        """Features of images [N, 3, 64, 64], ImageNet-normalised RGB: near has 128 channels, far 256."""
        return stem_features(self, images)

    def deform(self, features: Features, flow: Tensor, noise: Noise = NO_NOISE) -> Features:
        """Warp features along flow [N, 2, 16, 16], and add what the noise encodings make of their mean and noise."""
        far = warp(features.far, flow) + self.noise_encoding0(_noisy_mean(features.far, noise))
        near = warp(features.near, flow) + self.noise_encoding1(_noisy_mean(features.near, noise))
        return Features(features.image, near, far)

    def decode(self, features: Features) -> Tensor:
        """Draw the image of features. Returns [N, 3, 64, 64], normalised space, unbounded."""
        up = self.up(self.cnn(self.redconv(features.far)))
        image: Tensor = self.torgb(self.up2(torch.cat((features.near, up), 1)))
        return image


def _noisy_mean(maps: Tensor, noise: Noise) -> Tensor:
    """The mean over all places, at each place, plus noise. maps: [N, C, H, W]. Returns the same shape."""
    mean = F.adaptive_avg_pool2d(maps, 1).expand_as(maps)
    drawn = noise.like(maps)
    return mean if drawn is None else mean + drawn


def _noise_encoding(channels: int) -> nn.Sequential:
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(conv(channels, channels), relu, conv(channels, channels), nn.ReLU(inplace=True))


def _doubling(into: int, out: int) -> nn.Sequential:
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(Doubling(into, out), relu, conv(out, out), nn.ReLU(inplace=True))
