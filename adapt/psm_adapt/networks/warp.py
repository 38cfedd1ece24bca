"""Moving pixels and features along a flow, and the flow that leads back.

A flow is [N, 2, h, w] in units of the sampling grid, in which the image spans -1..1 from the centre of its first pixel
to the centre of its last (align_corners). Channel 0 is x, channel 1 is y. What a place shows comes from there plus the
flow; what lies outside is zero.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """Interpolate a flow to another resolution, in float32. flow: [N, 2, h, w]. Returns [N, 2, height, width]."""
    flow = flow.float()
    if flow.shape[-2:] == (height, width):
        return flow
    return F.interpolate(flow, (height, width), mode="bilinear", align_corners=True)


def warp(maps: Tensor, flow: Tensor) -> Tensor:
    """Warp images or features along a flow of any resolution, bilinearly, with zeros outside.

    Coordinates stay in float32 under autocast, since bfloat16 resolves a 64 px image to a quarter of a pixel only.

    Args:
        maps: [N, C, H, W].
        flow: [N, 2, h, w]; the caller's, not clamped.

    Returns: [N, C, H, W], in the dtype of maps.
    """
    height, width = maps.shape[-2:]
    with torch.autocast(maps.device.type, enabled=False):
        layout = (
            torch.channels_last if maps.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        )
        grid = identity_grid(height, width, maps.device) + resize_flow(flow, height, width).permute(0, 2, 3, 1)
        moved = F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return moved.to(maps.dtype, memory_format=layout)


def warp_image(image: Tensor, flow: Tensor) -> Tensor:
    """Warp images [N, 3, H, W] along a flow [N, 2, h, w] that is clamped to -1..1. Returns [N, 3, H, W]."""
    height, width = image.shape[-2:]
    return warp(image, resize_flow(flow, height, width).clamp(-1, 1))


def back_flow(flow: Tensor) -> Tensor:
    """Find the flow that leads back: minus the flow, read where the flow points to, clamped to -1..1.

    flow: [N, 2, h, w]. Returns the same shape. Exact for flows that do not vary over the places they connect.
    """
    return -warp(flow, flow).clamp(-1, 1)


def identity_grid(height: int, width: int, device: torch.device) -> Tensor:
    """The sampling grid that leaves an image as it is: [1, height, width, 2], x then y, -1..1."""
    y = torch.linspace(-1, 1, height, device=device)
    x = torch.linspace(-1, 1, width, device=device)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)[None]
