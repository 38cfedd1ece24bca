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
        """Draw from N(0, 1) in the shape, dtype and device of maps [N, C, H, W]. None: no noise.

        Drawn in float32 with channels last, whatever maps are: PyTorch's fast path on the CPU wants both, and a seed
        then gives the same noise in every memory layout.
        """
        if self.source is None:
            return None
        n, channels, height, width = maps.shape
        drawn = torch.randn((n, height, width, channels), generator=self.source, device=maps.device)
        return drawn.to(maps.dtype).permute(0, 3, 1, 2)


def seeded_noise(seed: int, device: torch.device | str = "cpu") -> Noise:
    """Noise that starts anew from a seed."""
    return Noise(torch.Generator(device).manual_seed(seed))


NO_NOISE = Noise()
