"""The training step of FaceCycle's expression stage, which is PSM's: what is drawn, and the terms of its loss.

Nothing is computed twice: the stem's features of the images serve the neutral face and the plain reconstruction, the
target's Gram matrices and SSIM averages serve all comparisons, and the perceptual network sees the images once.

Source: Chang, Chen, Chiu, ICCV 2021; Tazi, Berger, Freiwald (PSM) change nothing but the weight of the neutral face's
symmetry. The order and the places where gradients stop are those of the authors' code: they stop at the images and at
the target's Gram matrices, and they do flow through neutral faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from psm_adapt.losses import PUBLISHED, LossWeights, SsimTarget, gram, gram_distance, l1, ssim, ssim_target, symmetry
from psm_adapt.networks import NO_NOISE, Networks, Noise, back_flow, warp_image


@dataclass(frozen=True)
class Cycle:
    """What a step draws from images A and B, each with N faces: first those of A, then those of B, 2N in all."""

    codes: Tensor
    """[2N, 256], -1..1."""
    flow: Tensor
    """[2N, 2, 16, 16], grid units, from the expression to the neutral face."""
    back: Tensor
    """The same shape, the way back."""
    neutral: Tensor
    """[2N, 3, 64, 64], normalised space, as all images: the generator's neutral faces."""
    direct_forward: Tensor
    """The images themselves, warped to neutral."""
    direct_backward: Tensor
    """The other half's warped images, warped back to this half's expression."""
    swap_backward: Tensor
    """The other half's neutral faces, warped back to this half's expression."""
    rebuilt: Tensor
    """The other half's neutral faces, drawn by the generator with this half's expression; the authors' `recon`."""
    copied: Tensor
    """The images, drawn by the generator as they are; the authors' `rec_img`."""


@dataclass(frozen=True)
class Terms:
    """The loss by term, scalars, before their weights; `total` is the weighted sum."""

    pixel: Tensor
    perceptual: Tensor
    ssim: Tensor
    symmetry: Tensor
    total: Tensor

    def named(self) -> dict[str, Tensor]:
        """The terms by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def cycle_terms(
    networks: Networks,
    perceptual: nn.Module | None,
    images_a: Tensor,
    images_b: Tensor,
    *,
    weights: LossWeights = PUBLISHED,
    noise: Noise = NO_NOISE,
) -> Terms:
    """Compute the loss of one step.

    Args:
        networks: The model.
        perceptual: Makes a list of feature maps of images; see `build_perceptual`. None: the term is zero.
        images_a: [N, 3, 64, 64], ImageNet-normalised RGB.
        images_b: The same faces with other expressions, or flipped.
        weights: The terms' weights in this epoch.
        noise: Where the generator's noise comes from. The authors never train without.
    """
    images = torch.cat((images_a, images_b))
    return score_cycle(draw_cycle(networks, images, noise), images, perceptual, weights)


def draw_cycle(networks: Networks, images: Tensor, noise: Noise = NO_NOISE) -> Cycle:
    """Take the expressions off faces, exchange the halves, and put the expressions on again.

    images: [2N, 3, 64, 64], ImageNet-normalised RGB, the first half A, the second B.
    """
    generator = networks.generator
    codes = networks.encoder(images)
    flow = networks.flow_decoder(codes)
    back = back_flow(flow)
    features = generator.stem(images)
    neutral = generator.decode(generator.deform(features, flow, noise))
    other_neutral = swap_halves(neutral)
    direct_forward = warp_image(images, flow)
    return Cycle(
        codes=codes,
        flow=flow,
        back=back,
        neutral=neutral,
        direct_forward=direct_forward,
        direct_backward=warp_image(swap_halves(direct_forward), back),
        swap_backward=warp_image(other_neutral, back),
        rebuilt=generator(other_neutral, back, noise),
        copied=generator.decode(features),
    )


def score_cycle(cycle: Cycle, images: Tensor, perceptual: nn.Module | None, weights: LossWeights) -> Terms:
    """Compare what a step drew with its images [2N, 3, 64, 64]."""
    target = ssim_target(images)
    pixel = l1(cycle.rebuilt, images) + l1(cycle.copied, images) + l1(cycle.swap_backward, images)
    pixel = pixel + weights.direct * l1(cycle.direct_backward, images)
    unlike = _unlike(cycle.rebuilt, target) + _unlike(cycle.copied, target)
    unlike = unlike + weights.direct * _unlike(cycle.direct_backward, target)
    lopsided = weights.neutral * symmetry(cycle.neutral) + weights.forward * symmetry(cycle.direct_forward)
    made = (cycle.neutral, cycle.swap_backward, cycle.direct_backward, cycle.rebuilt)
    style = perceptual_distance(perceptual, made, images)
    total = weights.perceptual * style + weights.pixel * pixel + weights.symmetry * lopsided + weights.ssim * unlike
    return Terms(pixel, style, unlike, lopsided, total)


def perceptual_distance(network: nn.Module | None, made: tuple[Tensor, ...], images: Tensor) -> Tensor:
    """Gram distance of several drawings to the images that all of them should look like.

    A GPU takes all drawings in one batch. A CPU takes one after another, which is a third faster there: the maps of one
    drawing are small enough for memory that is already mapped.

    network: makes a list of feature maps; None gives zero. made: each [N, 3, H, W]. images: [N, 3, H, W].
    """
    if network is None:
        return images.new_zeros(())
    with torch.no_grad():
        targets = [gram(maps) for maps in network(images)]
    if images.is_cuda:
        return gram_distance(network(torch.cat(made)), targets)
    distances = [gram_distance(network(faces), targets) for faces in made]
    return torch.stack(distances).mean()


def swap_halves(faces: Tensor) -> Tensor:
    """Exchange the first and the second half of a batch."""
    return faces.roll(len(faces) // 2, 0)


def _unlike(made: Tensor, target: SsimTarget) -> Tensor:
    return 1 - ssim(made, target)
