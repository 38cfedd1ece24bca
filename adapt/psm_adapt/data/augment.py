"""FaceCycle's training augmentation, for a whole batch at once on its own device, and the plain transform of tests.

Source: Chang, Chen, Chiu 2021, the authors' code: short side to 64 px, RandomResizedCrop, colour jitter in eight of ten
images, mirror image in every second. Differences: crops of 128 px are brought to 64 by an area filter, as the live path
does; values stay real numbers throughout, where the authors round to 8 bits after each step (a few grey levels); and
every random number comes from a generator that is handed in, so an epoch can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SIZE_PX = 64
"""Side of what the networks see."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's mean and deviation of R, G, B, 0..1."""

_LUMA = (0.299, 0.587, 0.114)
_TRIES = 10
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@dataclass(frozen=True, slots=True)
class Strength:
    """How much is changed; the defaults are published.

    area: share of the image that the crop takes, before it is cut to what is there; so the published 1.05 means 1.
    ratio: width over height of the crop. jitter: share of images whose colours change, by factors 1 +- brightness,
    contrast, saturation, and by +- hue of the whole circle. flip: share of mirrored images.
    """

    area: tuple[float, float] = (0.95, 1.05)
    ratio: tuple[float, float] = (0.95, 1.05)
    jitter: float = 0.8
    brightness: float = 0.05
    contrast: float = 0.05
    saturation: float = 0.05
    hue: float = 0.01
    flip: float = 0.5


PUBLISHED = Strength()


@dataclass(frozen=True, slots=True)
class Draws:
    """What happens to each of N images; on the CPU, whatever the images' device.

    box: [N, 4] top, left, height, width, whole px. is_flipped: [N]. order: [N, 4], the order of the four colour changes
    (brightness, contrast, saturation, hue). factors: [N, 4], of the changes in that numbering; 1, 1, 1, 0 is none.
    """

    box: Tensor
    is_flipped: Tensor
    order: Tensor
    factors: Tensor


def plain(crops: Tensor) -> Tensor:
    """Return crops as they are, for the networks: the transform of tests and of the live path.

    crops: uint8 [N, 128, 128, 3] or [N, 64, 64, 3] RGB. Returns float32 [N, 3, 64, 64], ImageNet-normalised.
    """
    return normalise(shrink(crops))


def augment(crops: Tensor, generator: torch.Generator, strength: Strength = PUBLISHED) -> Tensor:
    """Return crops with an augmentation of its own for each.

    crops: uint8 [N, 128, 128, 3] or [N, 64, 64, 3] RGB. generator: on the CPU.
    Returns float32 [N, 3, 64, 64], ImageNet-normalised, on the crops' device.
    """
    draws = draw(len(crops), generator, strength)
    return normalise(jitter(cut(shrink(crops), draws), draws))


def augment_pairs(
    a: Tensor, b: Tensor, is_flip: Tensor, generator: torch.Generator, strength: Strength = PUBLISHED
) -> tuple[Tensor, Tensor]:
    """Return the two images of each pair, each with an augmentation of its own.

    a, b: crops as for `augment`, [N, ...]. is_flip: bool [N] on the CPU; where it is True the second image is the first
    one, already augmented, mirrored, and b is not looked at. Returns two float32 [N, 3, 64, 64], ImageNet-normalised.
    """
    others = torch.nonzero(~is_flip)[:, 0].to(a.device)
    images = augment(torch.cat([a, b[others]]), generator, strength)
    first = images[: len(a)]
    second = mirror(first)
    second[others] = images[len(a) :]
    return first, second


def mirror(images: Tensor) -> Tensor:
    """Return images [..., W], right and left exchanged."""
    return images.flip(-1)


def normalise(images: Tensor) -> Tensor:
    """Take images [N, 3, H, W] from 0..255 RGB to the networks' ImageNet-normalised space."""
    mean, std = (images.new_tensor(values)[:, None, None] * 255 for values in (MEAN, STD))
    return (images - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """Take images [N, 3, H, W] from the networks' space to 0..1 RGB, for people to see. Values outside are cut off."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)


def shrink(crops: Tensor) -> Tensor:
    """Bring crops to 64 px as the live path does (OpenCV's area filter, to the same whole grey levels).

    crops: uint8 [N, 128, 128, 3] or [N, 64, 64, 3]. Returns float32 [N, 3, 64, 64], 0..255, channels last in memory.
    Raises ValueError: another shape or type.
    """
    side = crops.shape[1] if crops.ndim == 4 else 0
    if crops.dtype != torch.uint8 or crops.shape[1:] != (side, side, 3) or side not in (SIZE_PX, 2 * SIZE_PX):
        raise ValueError(f"crops must be uint8 [N, 128, 128, 3] or [N, 64, 64, 3], not {crops.dtype} {[*crops.shape]}")
    images = crops.permute(0, 3, 1, 2).float()
    return images if side == SIZE_PX else functional.avg_pool2d(images, 2).add_(0.5).floor_()


def draw(count: int, generator: torch.Generator, strength: Strength = PUBLISHED) -> Draws:
    """Draw what happens to each of `count` images."""
    numbers = torch.rand(count, 2 * _TRIES + 12, generator=generator, dtype=torch.float64)
    tries, place, flip, jittered, order, factors = torch.split(numbers, [2 * _TRIES, 2, 1, 1, 4, 4], dim=1)
    span = torch.tensor(
        [strength.brightness, strength.contrast, strength.saturation, strength.hue], dtype=torch.float64
    )
    change = torch.where(jittered < strength.jitter, (2 * factors - 1) * span, 0.0)
    return Draws(
        box=_boxes(tries, place, strength),
        is_flipped=flip[:, 0] < strength.flip,
        order=order.argsort(dim=1),
        factors=(change + torch.tensor([1.0, 1.0, 1.0, 0.0])).float(),
    )


def cut(images: Tensor, draws: Draws) -> Tensor:
    """Cut out each image's box, bring it to 64 px by linear interpolation, and mirror it where that was drawn.

    images: float [N, 3, 64, 64]. Beyond the box's edge its outermost pixels go on.
    """
    top, left, height, width = draws.box.to(images.device, torch.float32).T[:, :, None]
    steps = (torch.arange(SIZE_PX, device=images.device) + 0.5) / SIZE_PX
    is_flipped = draws.is_flipped.to(images.device)[:, None]
    x = torch.where(is_flipped, 1 - steps, steps) * width - 0.5
    y = steps * height - 0.5
    x = left + torch.minimum(x.clamp(min=0), width - 1)
    y = top + torch.minimum(y.clamp(min=0), height - 1)
    count = len(images)
    grid = torch.stack(
        [x[:, None, :].expand(count, SIZE_PX, SIZE_PX), y[:, :, None].expand(count, SIZE_PX, SIZE_PX)], dim=-1
    )
    return functional.grid_sample(images, grid * (2 / (SIZE_PX - 1)) - 1, mode="bilinear", align_corners=True)


def jitter(images: Tensor, draws: Draws) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, in its own order.

    images: float [N, 3, H, W], 0..255 RGB. Returns the same, cut off at 0 and 255 after each change, as PIL does.
    """
    factors = draws.factors.to(images.device)
    for turn in draws.order.T:
        images = _blend(images, turn.to(images.device), factors)
        # each image has its turn of hue once; an unchanged one has none
        hued = torch.nonzero((turn == _HUE) & (draws.factors[:, _HUE] != 0))[:, 0].to(images.device)
        images = images.index_copy(0, hued, _turn_hue(images[hued], factors[hued, _HUE]))
    return images


def _boxes(tries: Tensor, place: Tensor, strength: Strength) -> Tensor:
    """Return [N, 4] boxes as torchvision's RandomResizedCrop draws them: the first of ten that fits, else the whole."""
    log_ratio = torch.tensor(strength.ratio, dtype=torch.float64).log()
    area = (strength.area[0] + tries[:, 0::2] * (strength.area[1] - strength.area[0])) * SIZE_PX**2
    ratio = (log_ratio[0] + tries[:, 1::2] * (log_ratio[1] - log_ratio[0])).exp()
    sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=2).round().long()  # height, width
    fits = ((sides > 0) & (sides <= SIZE_PX)).all(dim=2)
    first = sides[torch.arange(len(sides)), fits.long().argmax(dim=1)]
    chosen = torch.where(fits.any(dim=1, keepdim=True), first, SIZE_PX)
    corner = (place * (SIZE_PX - chosen + 1)).floor().long()
    return torch.cat([corner, chosen], dim=1)


def _blend(images: Tensor, turn: Tensor, factors: Tensor) -> Tensor:
    """Blend each image with black, its mean grey or its own grey, as its turn says; at the turn of hue it stays."""
    grey = (images * images.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    turn = turn[:, None, None, None]
    base = torch.where(turn == _SATURATION, grey, torch.where(turn == _CONTRAST, mean, 0.0))
    factor = torch.where(turn == _HUE, 1.0, factors.gather(1, turn[:, :, 0, 0])[:, :, None, None])
    return (base + (images - base) * factor).clamp(0, 255)


def _turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of each image [n, 3, H, W] by turns [n] of the whole circle; its HSV value and saturation stay."""
    value, brightest = images.max(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    # on the hexagon of six sides: red 0, green 2, blue 4, plus how far the next colour outweighs the one before
    ahead, behind = images.roll(-1, dims=1), images.roll(-2, dims=1)
    side = (ahead - behind).gather(1, brightest) / chroma.clamp(min=1e-6) + 2 * brightest
    side = side + 6 * turns[:, None, None, None]
    offset = side.new_tensor([5.0, 3.0, 1.0])[:, None, None]
    place = (offset + side).remainder(6)
    return value - chroma * torch.minimum(place, 4 - place).clamp(0, 1)
