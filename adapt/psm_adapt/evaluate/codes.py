"""Codes of crops by an encoder of ours in torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from psm_adapt.data.augment import plain
from psm_adapt.evaluate.clips import Clip


@torch.inference_mode()
def codes_of(encoder: nn.Module, clip: Clip, tell: Callable[[int], None]) -> NDArray[np.float32]:
    """Encode the crops of a clip. tell: is told how many more are done. Returns [n, 256]."""
    codes = []
    for crops in clip.crops():
        codes.append(encoder(plain(torch.from_numpy(crops))).float().numpy())
        tell(len(crops))
    return np.concatenate(codes)
