"""What FaceCycle's other networks and our training add to the encoder's layers: doubling, and He's initial weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution to twice the size, 4 2 1.

    The bias is added apart: inside the transposed convolution its gradient takes oneDNN longer than all the rest.
    """

    def __init__(self, into: int, out: int) -> None:
        super().__init__(into, out, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x: [N, C, H, W]. Returns [N, out, 2 H, 2 W]."""
        assert self.bias is not None
        y = F.conv_transpose2d(x, self.weight, None, 2, 1)
        return y + self.bias.to(y.dtype)[:, None, None]


@torch.no_grad()
def init_he_linear(network: nn.Module) -> None:
    """Draw the linear layers by He's rule, N(0, sqrt(2 / inputs)).

    With the published 0.01 the code starts near zero, and at usual rates it stays there for thousands of steps.
    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015, equation 10.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.normal_(0, math.sqrt(2 / layer.in_features))
