"""The losses of FaceCycle and PSM, each a pure function of images or features, and their weights.

Images are [N, 3, H, W] in the normalised space (ImageNet-normalised RGB, unbounded). All is computed in float32, also
under autocast: differences of almost equal numbers need it. Each result is a scalar, the mean over everything.

Source: Chang, Chen, Chiu, "Learning Facial Representations from the Cycle-consistency of Face", ICCV 2021, and the
authors' code where the paper is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psm_export.networks.layers import rows_of

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
"""Made for a range of 1. The authors leave them so although normalised images span about 4.7; so do we."""


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; the defaults are the published ones."""

    pixel: float = 1.0
    perceptual: float = 0.01
    symmetry: float = 1.5
    ssim: float = 5.0
    neutral: float = 1.0
    """Of the neutral face's symmetry alone, inside the symmetry term: PSM's `neu_face_loss_weight` in this epoch."""
    direct: float = 1.5
    """Of the image warped there and back, inside the pixel and SSIM terms."""
    forward: float = 0.5
    """Of the warped image's symmetry, inside the symmetry term."""


PUBLISHED = LossWeights()


def l1(made: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of images. Source: the pixel terms of FaceCycle."""
    return (made.float() - target.float()).abs().mean()


def symmetry(images: Tensor) -> Tensor:
    """Mean absolute difference between the left half of images and their right half, mirrored. W is even.

    Source: FaceCycle's symmetry term, which makes neutral faces face forward.
    """
    half = images.shape[-1] // 2
    images = images.float()
    return l1(images[..., :half], images[..., half:].flip(-1))


def gram(maps: Tensor) -> Tensor:
    """The products of all pairs of channels, averaged over places. maps: [N, C, H, W]. Returns [N, C, C], float32.

    Source: Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, equation 3, but
    divided by the number of places, not of channels, as FaceCycle does.
    """
    with torch.autocast(maps.device.type, enabled=False):
        rows = rows_of(maps.float())
        return rows.transpose(1, 2) @ rows / rows.shape[1]


def gram_distance(made: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of Gram matrices, summed over layers: FaceCycle's perceptual term.

    Args:
        made: One feature map per layer, [K * N, C, H, W]: K stacks of N images.
        targets: One Gram matrix per layer, [N, C, C], float32: what each of the K stacks should have.
    """
    distances = [_GramDistance.apply(*pair) for pair in zip(made, targets, strict=True)]  # type: ignore[no-untyped-call]
    return torch.stack(distances).sum()


class _GramDistance(torch.autograd.Function):
    """Mean squared difference between Gram matrices of maps and given ones, with its gradient written out.

    Gram matrices are larger than the features of the last layer. PyTorch's own gradient takes two products with them,
    which are equal since they are symmetric, and passes over them eight times more.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, target: Tensor) -> Tensor:
        """maps: [K * N, C, H, W]. target: [N, C, C]. Returns a scalar, float32."""
        with torch.autocast(maps.device.type, enabled=False):
            rows = rows_of(maps.float())
            apart = rows.transpose(1, 2) @ rows
            apart.view(-1, *target.shape).sub_(target, alpha=rows.shape[1])
            ctx.save_for_backward(rows, apart)
            ctx.maps = maps.shape, maps.dtype
            squares: Tensor = torch.linalg.vector_norm(apart, dim=(1, 2)).square().sum()
            return squares / (apart.numel() * rows.shape[1] ** 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rows, apart = ctx.saved_tensors
        (count, channels, height, width), dtype = ctx.maps
        along = rows @ apart * (gradients[0] * (4 / (apart.numel() * rows.shape[1] ** 2)))
        return along.view(count, height, width, channels).permute(0, 3, 1, 2).to(dtype), None


@dataclass(frozen=True)
class SsimTarget:
    """What SSIM needs of the images that others are compared with; computed once for all comparisons."""

    images: Tensor
    """[N, C, H, W], float32."""
    mean: Tensor
    """Local mean, same shape."""
    variance: Tensor
    """Local variance, same shape."""
    rows: Tensor
    """[H, H] Gaussian weights that average over rows."""
    columns: Tensor
    """[W, W] the same for columns."""


def ssim_target(images: Tensor) -> SsimTarget:
    """Prepare images [N, C, H, W] for comparisons by `ssim`."""
    with torch.autocast(images.device.type, enabled=False):
        images = images.float()
        rows, columns = (_gaussian_band(side, images.device) for side in images.shape[-2:])
        mean = rows @ images @ columns
        return SsimTarget(images, mean, rows @ images.square() @ columns - mean.square(), rows, columns)


def ssim(made: Tensor, target: SsimTarget) -> Tensor:
    """Mean structural similarity of images to a target, 1 where they are equal.

    Gaussian window of 11 px, sigma 1.5 px, zeros outside the image. Local averages are matrix products from both sides,
    which equal the 11x11 convolution, since a Gaussian separates.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment", IEEE TIP 2004, equation 13.
    """
    with torch.autocast(made.device.type, enabled=False):
        made = made.float()
        stack = torch.stack((made, made.square(), made * target.images))
        mean, square, product = (target.rows @ stack @ target.columns).unbind()
        variance, covariance = square - mean.square(), product - mean * target.mean
        likeness = (2 * mean * target.mean + SSIM_C1) * (2 * covariance + SSIM_C2)
        scale = (mean.square() + target.mean.square() + SSIM_C1) * (variance + target.variance + SSIM_C2)
        return (likeness / scale).mean()


def _gaussian_band(side: int, device: torch.device) -> Tensor:
    """[side, side]: row i holds the window around i, cut off at the image's border (zero padding). Symmetric."""
    place = torch.arange(side, device=device)
    away = place[:, None] - place
    window = torch.exp(-away.square() / (2 * SSIM_SIGMA_PX**2)) * (away.abs() <= SSIM_WINDOW_PX // 2)
    inside = torch.arange(SSIM_WINDOW_PX, device=device) - SSIM_WINDOW_PX // 2
    return window / torch.exp(-inside.square() / (2 * SSIM_SIGMA_PX**2)).sum()
