"""FaceCycle's flow decoder: from a code to the flow that takes the expression off a face.

Source: Chang, Chen, Chiu, ICCV 2021; keys are those of the authors' `exptoflow`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psm_adapt.networks.warp import back_flow, warp_image
from psm_export.networks.facecycle import CODE
from psm_export.networks.layers import Attention, Residual, conv, init_published, leaky

__all__ = ["FlowDecoder", "back_flow", "warp_image"]


class FlowDecoder(nn.Module):
    """Code to flow; 2,996,544 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.motiongen1 = nn.Sequential(
            conv(CODE, 4096, 1), nn.PixelShuffle(4), leaky(), Attention(256), conv(256, 256), leaky()
        )
        self.motiongen2 = nn.Sequential(_doubled(), conv(256, 128), leaky(), Attention(128), conv(128, 128), leaky())
        self.resblock1 = Residual(128)
        self.resblock2 = Residual(128)
        self.toflow4 = nn.Sequential(_doubled(), conv(128, 64), leaky(), nn.Conv2d(64, 2, 1, bias=False))
        init_published(self)
        for layer in (self.toflow4[1], self.toflow4[3]):
            nn.init.normal_(layer.weight, 0, 0.05)  # type: ignore[arg-type]

    def forward(self, codes: Tensor) -> Tensor:
        """codes: [N, 256]. Returns flows [N, 2, 16, 16], -1..1 in grid units; `back_flow` gives the way back."""
        x = self.motiongen2(self.motiongen1(codes[:, :, None, None]))
        x = self.resblock2(self.resblock1(x))
        return torch.tanh(self.toflow4(x))


def _doubled() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
