"""Neutral faces: how alike those are that a model draws of one person, and whether it draws one face of anything.

The distance of two images is the L2 norm of their whole difference, 0..1 RGB of 64x64; a person's is the mean over all
pairs of frames. Small is good, unless the model has collapsed: so 8 images of noise go in, too, and what comes out of
them should differ.

Source: PSM (Tazi, Berger, Freiwald). Published over all frames: input 10.1 on four frames; neutral faces 0.5 to 4.6.
What differs: the generator's noise is off unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psm_adapt.data.augment import denormalise, normalise, plain
from psm_adapt.networks.design import Networks
from psm_adapt.networks.noise import NO_NOISE, Noise

NOISE_IMAGES = 8
SIZE_PX = 64
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Distances:
    """Mean distance over all pairs: of the images that went in, and of the neutral faces that came out."""

    of_inputs: float
    of_neutrals: float


def neutral_distance(networks: Networks, crops: NDArray[np.uint8], noise: Noise = NO_NOISE) -> Distances:
    """How far apart the neutral faces of one person are. crops: [n, 128, 128, 3] uint8 RGB, two or more frames."""
    return _distances(networks, plain(torch.from_numpy(crops)), noise)


def noise_check(networks: Networks, seed: int = 0, noise: Noise = NO_NOISE) -> Distances:
    """How far apart the neutral faces of 8 images are that are uniform noise, 0..1."""
    source = torch.Generator().manual_seed(seed)
    images = torch.rand((NOISE_IMAGES, 3, SIZE_PX, SIZE_PX), generator=source)
    return _distances(networks, normalise(images * 255), noise)


@torch.inference_mode()
def neutral_faces(networks: Networks, images: Tensor, noise: Noise = NO_NOISE) -> Tensor:
    """Take the expressions off faces. images: [n, 3, 64, 64], ImageNet-normalised. Returns the same, unbounded."""
    networks.eval()
    drawn = []
    for some in torch.split(images, _AT_ONCE):
        flow = networks.flow_decoder(networks.encoder(some))
        drawn.append(networks.generator(some, flow, noise))
    return torch.cat(drawn)


def mean_distance(images: Tensor) -> float:
    """Mean L2 norm of the difference over all pairs. images: [n, 3, H, W] 0..1 RGB, n at least 2."""
    flat = images.flatten(1).double()
    return float(torch.nn.functional.pdist(flat).mean())


def _distances(networks: Networks, images: Tensor, noise: Noise) -> Distances:
    neutral = neutral_faces(networks, images, noise)
    return Distances(mean_distance(denormalise(images)), mean_distance(denormalise(neutral)))
