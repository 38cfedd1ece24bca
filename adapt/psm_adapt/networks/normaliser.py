"""FaceCycle's identity normaliser: a neutral face to the mean face, and from the mean face to a person's neutral face.

Source: Chang, Chen, Chiu, ICCV 2021; keys are those of the authors' `Swap_Norm`.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from psm_adapt.networks.blocks import Doubling
from psm_adapt.networks.vgg import freeze_stem, stem_features, vgg_layer
from psm_export.networks.facecycle import CODE
from psm_export.networks.layers import Residual, conv


class Normaliser(nn.Module):
    """Face and identity code to face; 10,014,275 parameters, of which a frozen stem has 555,328.

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
        self.denorm = Restyle(256)
        self.renorm = Restyle(256)
        self.cnn = nn.Sequential(*(Residual(256) for _ in range(6)))
        self.cnn3 = nn.Sequential(Residual(256))
        self.up = nn.Sequential(
            Doubling(256, 128),
            nn.ReLU(inplace=True),
            conv(128, 128),
            nn.ReLU(inplace=True),
            Doubling(128, 128),
            nn.ReLU(inplace=True),
        )
        self.torgb = conv(128, 3, 1)

    def forward(self, images: Tensor, codes: Tensor, way: Literal["denorm", "renorm"]) -> Tensor:
        """Take a person's look off a face, or put it on.

        Args:
            images: [N, 3, 64, 64], ImageNet-normalised RGB.
            codes: [N, 256], the identity encoder's.
            way: "denorm" takes off, "renorm" puts on.

        Returns: [N, 3, 64, 64] in the normalised space, unbounded.
        """
        restyle = self.denorm if way == "denorm" else self.renorm
        x = restyle(stem_features(self, images).far, codes)
        image: Tensor = self.torgb(self.up(self.cnn3(self.cnn(x))))
        return image


class Restyle(nn.Module):
    """Give features the mean and deviation that a code asks for, channel by channel and face by face.

    Source: Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017,
    equation 8, with mean and deviation computed from a code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = conv(CODE, channels, 1)
        self.gamma = conv(CODE, channels, 1)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """x: [N, C, H, W]. codes: [N, 256]. Returns the shape of x."""
        codes = codes[:, :, None, None]
        styled: Tensor = F.instance_norm(x) * self.gamma(codes) + self.beta(codes)
        return styled
