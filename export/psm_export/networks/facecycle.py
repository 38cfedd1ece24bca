"""FaceCycle's encoder: a face as a code of 256 numbers. The expression and the identity encoder are two of them.

Source: Chang, Chen, Chiu, ICCV 2021; keys are those of the authors' `codegeneration` and `idcodegen`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psm_export.networks.layers import Attention, Residual, conv, init_published, leaky

CODE = 256
"""Numbers in a code."""
FACE_PX = 64
"""Side of the images that all networks work on."""


class Encoder(nn.Module):
    """Face to code; 4,240,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, 64, 7, 2), leaky(), conv(64, 64), leaky())
        self.layer1 = nn.Sequential(conv(64, 64), leaky(), Attention(64), conv(64, 64), leaky())
        self.layer2_1 = nn.Sequential(conv(64, 128, 3, 2), leaky(), Attention(128), conv(128, 128), leaky())
        self.resblock1 = Residual(128)
        self.resblock2 = Residual(128)
        self.layer2_2 = nn.Sequential(conv(128, 128, 3, 2), leaky(), conv(128, 128), leaky())
        self.layer3_1 = nn.Sequential(conv(128, 256, 3, 2), leaky(), conv(256, 256), leaky())
        self.layer3_2 = nn.Sequential(conv(256, 256), leaky(), conv(256, 128), leaky())
        self.expresscode = nn.Sequential(nn.Linear(2048, 512), leaky(), nn.Linear(512, CODE))
        init_published(self)

    def forward(self, images: Tensor) -> Tensor:
        """images: [N, 3, 64, 64], ImageNet-normalised RGB. Returns codes [N, 256], -1..1."""
        return torch.tanh(self.expresscode(self.features(images).flatten(1)))

    def features(self, images: Tensor) -> Tensor:
        """The map before the linear layers, which the authors' RAF-DB probe reads.

        images: [N, 3, H, W], ImageNet-normalised RGB, H and W multiples of 16 or near. Returns [N, 128, H/16, W/16].
        """
        x = self.layer2_1(self.layer1(self.conv1(images)))
        x = self.resblock2(self.resblock1(x))
        maps: Tensor = self.layer3_2(self.layer3_1(self.layer2_2(x)))
        return maps
