"""The layers that FaceCycle's networks are made of: attention, residual block, activations, initial weights.

Source: Chang, Chen, Chiu, "Learning Facial Representations from the Cycle-consistency of Face", ICCV 2021, and the
layer tables of the authors' code. Attribute names are the authors', so that checkpoints fit key by key.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAK = 0.1
"""Slope of LeakyReLU below zero, in all networks."""


def leaky() -> nn.LeakyReLU:
    """The activation of all networks but the VGG layers. In place: no layer before it needs its own output again."""
    return nn.LeakyReLU(LEAK, inplace=True)


def conv(into: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, or halves it at stride 2."""
    return nn.Conv2d(into, out, kernel, stride, kernel // 2)


class Attention(nn.Module):
    """Attention over channels, at a cost linear in the number of positions.

    theta is a distribution over positions for each channel, g one over channels for each position, phi is raw. phi
    times theta transposed is a channel-by-channel matrix, which mixes g. What comes out is added to the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = conv(channels, channels, 1)
        self.theta = conv(channels, channels, 1)
        self.phi = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W]. Returns the same shape."""
        g, theta, phi = (rows_of(layer(x)) for layer in (self.g, self.theta, self.phi))
        mixing = theta.softmax(1).transpose(1, 2) @ phi
        n, channels, height, width = x.shape
        mixed = (g.softmax(2) @ mixing).view(n, height, width, channels).permute(0, 3, 1, 2)
        return F.leaky_relu(x + mixed, LEAK)


def rows_of(maps: Tensor) -> Tensor:
    """A row per place: [N, C, H, W] to [N, H * W, C]. A view of maps in channels_last, and so are its gradients."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut, without normalisation ("BasicBlockNormal")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W]. Returns the same shape."""
        h = self.conv2(F.leaky_relu(self.conv1(x), LEAK, inplace=True))
        return F.leaky_relu(h.add_(x), LEAK, inplace=True)


@torch.no_grad()
def init_published(network: nn.Module) -> None:
    """Draw weights as the authors do: convolutions N(0, sqrt(2 / (k k out))), linear layers N(0, 0.01), biases zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            side = layer.kernel_size[0]
            layer.weight.normal_(0, math.sqrt(2 / (side * side * layer.out_channels)))
        elif isinstance(layer, nn.Linear):
            layer.weight.normal_(0, 0.01)
        else:
            continue
        if layer.bias is not None:
            layer.bias.zero_()
