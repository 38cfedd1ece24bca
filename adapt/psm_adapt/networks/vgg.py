"""VGG19's first layers: the generator's stem and the features of the perceptual loss.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.
Layers are named as FaceCycle's authors name them (`conv1_1.0` and so on).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

STEM = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
"""The layers that FaceCycle's generator and normaliser begin with."""


class Features(NamedTuple):
    """Images and what a generator's stem makes of them; channels are the generator's choice."""

    image: Tensor
    """[N, 3, 64, 64], ImageNet-normalised RGB. FaceCycle's generator does not look at it, the light one does."""
    near: Tensor
    """[N, C1, 32, 32]; the authors' `feat2`."""
    far: Tensor
    """[N, C2, 16, 16]; the authors' `feat`."""


class Stem(Protocol):
    """A network that begins with VGG19's first five convolutions."""

    conv1_1: nn.Sequential
    conv1_2: nn.Sequential
    conv2_1: nn.Sequential
    conv2_2: nn.Sequential
    conv3_1: nn.Sequential


def vgg_layer(into: int, out: int) -> nn.Sequential:
    """One convolution of VGG19 and its ReLU."""
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1), nn.ReLU(inplace=True))


def stem_features(network: Stem, images: Tensor) -> Features:
    """Features of images [N, 3, H, W], ImageNet-normalised RGB: near has 128 channels (r21), far 256 (r31)."""
    near = network.conv2_1(F.max_pool2d(network.conv1_2(network.conv1_1(images)), 2))
    far = network.conv3_1(F.max_pool2d(network.conv2_2(near), 2))
    return Features(images, near, far)


def freeze_stem(network: Stem) -> None:
    """Keep a stem's weights as they are during training, as the authors do with VGG19's."""
    for name in STEM:
        getattr(network, name).requires_grad_(False)


class Vgg19(nn.Module):
    """VGG19 as far as conv4_1, frozen: features r21, r31 and r41 of FaceCycle's perceptual loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1_1 = vgg_layer(3, 64)
        self.conv1_2 = vgg_layer(64, 64)
        self.conv2_1 = vgg_layer(64, 128)
        self.conv2_2 = vgg_layer(128, 128)
        self.conv3_1 = vgg_layer(128, 256)
        self.conv3_2 = vgg_layer(256, 256)
        self.conv3_3 = vgg_layer(256, 256)
        self.conv3_4 = vgg_layer(256, 256)
        self.conv4_1 = vgg_layer(256, 512)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: [N, 3, 64, 64], ImageNet-normalised RGB. Returns three maps, [N, 128, 32, 32] to [N, 512, 8, 8]."""
        _, r21, r31 = stem_features(self, images)
        r41 = self.conv4_1(F.max_pool2d(self.conv3_4(self.conv3_3(self.conv3_2(r31))), 2))
        return [r21, r31, r41]
