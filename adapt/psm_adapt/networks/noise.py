"""The Gaussian noise that FaceCycle's generator adds to features: off, or drawn from a generator of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Where the generator's noise comes from.

    source: a generator on the device of the images, so that a seed gives the same noise wherever else random numbers
        are drawn. None: no noise, which makes the network a function of its inputs. The authors always add noise.
    """

    source: torch.Generator | None = None

    def like(self, maps: Tensor) -> Tensor | None:
        """Draw from N(0, 1) in the shape, dtype, layout and device of maps. None: no noise."""
        if self.source is None:
            return None
        return torch.empty_like(maps).normal_(generator=self.source)


def seeded_noise(seed: int, device: torch.device | str = "cpu") -> Noise:
    """Noise that starts anew from a seed."""
    return Noise(torch.Generator(device).manual_seed(seed))


NO_NOISE = Noise()
