"""Strong augmentation for learning from few people: other cameras, lights, poses and faces, for a whole batch at once.

What is learned must survive it, so nothing here changes an expression: the geometry moves and bends a face as a whole,
smoothly and by little, and the rest is light, colour, sharpness and things in the way. FaceCycle's own augmentation
(`psm_adapt.data.augment`) is far weaker: it was made for thousands of people.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from psm_adapt.data.augment import SIZE_PX, normalise


@dataclass(frozen=True, slots=True)
class Strengths:
    """How much is changed. Angles in rad, shifts as a share of the half side; exponents are natural.

    bend: deviation of a smooth displacement on a 5 x 5 grid, as a share of the half side. light: of the exponent of a
    linear ramp across the image. occluded: share of images with a patch of one colour before the face.
    """

    angle: float = 0.10
    scale: float = 0.08
    stretch: float = 0.05
    shift: float = 0.05
    bend: float = 0.06
    saturation: float = 1.5
    tint: float = 0.10
    contrast: float = 0.45
    brightness: float = 0.55
    gamma: float = 0.4
    light: float = 0.25
    blurred: float = 0.3
    noise: float = 0.04
    occluded: float = 0.15
    flip: float = 0.5

    @classmethod
    def mild(cls) -> Strengths:
        """No more than FaceCycle's own augmentation, for comparison."""
        none = {
            "angle": 0.0,
            "scale": 0.03,
            "stretch": 0.03,
            "shift": 0.0,
            "bend": 0.0,
            "saturation": 1.05,
            "tint": 0.0,
        }
        less = {"contrast": 0.05, "brightness": 0.05, "gamma": 0.0, "light": 0.0, "blurred": 0.0}
        return cls(**none, **less, noise=0.0, occluded=0.0)


def vary(crops: Tensor, generator: torch.Generator, strengths: Strengths) -> tuple[Tensor, Tensor]:
    """Change each crop at random.

    crops: uint8 [N, 128, 128, 3] RGB. generator: on the CPU. Returns float32 [N, 3, 64, 64], ImageNet-normalised, on
    the crops' device, and bool [N] on the CPU: which of them are mirrored.
    """
    images = crops.permute(0, 3, 1, 2).float() / 255
    is_flipped = torch.rand(len(images), generator=generator) < strengths.flip
    images = torch.where(is_flipped.to(images.device)[:, None, None, None], images.flip(3), images)
    draw = _Draw(len(images), generator, images.device)
    images = _moved(images, draw, strengths)
    images = _coloured(images, draw, strengths)
    images = _degraded(images, draw, strengths)
    return normalise(images.clamp(0, 1) * 255), is_flipped


class _Draw:
    """Random numbers for a batch, one per image unless a shape is given, on the images' device."""

    def __init__(self, count: int, generator: torch.Generator, device: torch.device) -> None:
        self.count, self.generator, self.device = count, generator, device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(self.count, *shape, generator=self.generator) * (high - low) + low).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generator).to(self.device)

    def symmetric(self, span: float) -> Tensor:
        return self.uniform(-span, span)


def _moved(images: Tensor, draw: _Draw, by: Strengths) -> Tensor:
    """Turn, scale, stretch, shift and bend: [N, 3, 128, 128] to [N, 3, 64, 64]."""
    angle, scale, stretch = draw.symmetric(by.angle), draw.symmetric(by.scale).exp(), draw.symmetric(by.stretch).exp()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [cos * stretch, -sin, draw.symmetric(by.shift), sin, cos / stretch, draw.symmetric(by.shift)]
    affine = torch.stack(rows, 1).view(-1, 2, 3)
    grid = functional.affine_grid(affine, [draw.count, 3, SIZE_PX, SIZE_PX], align_corners=False)
    bend = draw.normal(2, 5, 5) * by.bend * draw.uniform(0, 1, 1, 1, 1)
    bend = functional.interpolate(bend, (SIZE_PX, SIZE_PX), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    # two pixels a step: a linear sample between four of them is close to the area filter
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _coloured(images: Tensor, draw: _Draw, by: Strengths) -> Tensor:
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * draw.uniform(0, by.saturation, 1, 1, 1)
    images = images * (1 + by.tint * draw.normal(3, 1, 1))
    middle = images.mean((1, 2, 3), keepdim=True)
    contrast, brightness = _factor(draw, by.contrast), _factor(draw, by.brightness)
    images = (images - middle) * contrast + middle * brightness
    place = torch.linspace(-1, 1, SIZE_PX, device=images.device)
    ramp = place[None, None, None, :] * draw.normal(1, 1, 1) + place[None, None, :, None] * draw.normal(1, 1, 1)
    images = images * (by.light * ramp).exp()
    lit: Tensor = images.clamp(1e-3, 1) ** _factor(draw, by.gamma)
    return lit


def _degraded(images: Tensor, draw: _Draw, by: Strengths) -> Tensor:
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    blurred = functional.avg_pool2d(padded, 3, 1)
    images = torch.where(draw.uniform(0, 1, 1, 1, 1) < by.blurred, blurred, images)
    images = images + draw.normal(3, SIZE_PX, SIZE_PX) * draw.uniform(0, by.noise, 1, 1, 1)
    place = torch.arange(SIZE_PX, device=images.device)
    side, corner = draw.uniform(6, 22, 2), draw.uniform(0, 1, 2)
    first = (corner * (SIZE_PX - side)).floor()
    within = [(place >= first[:, axis, None]) & (place < (first + side)[:, axis, None]) for axis in (0, 1)]
    patch = within[0][:, None, :, None] & within[1][:, None, None, :]
    patch = patch & (draw.uniform(0, 1, 1, 1, 1) < by.occluded)
    return torch.where(patch, draw.uniform(0, 1, 3, 1, 1), images)


def _factor(draw: _Draw, span: float) -> Tensor:
    return draw.uniform(-span, span, 1, 1, 1).exp()
