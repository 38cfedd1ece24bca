"""Action units where nobody has coded any: proxies from MediaPipe's blendshapes.

They are computed from landmarks, so features made of landmarks or blendshapes are near the upper bound, not rivals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.errors import AdaptationError

ABOVE_MEDIAN = 0.15
FLOOR = 0.2


@dataclass(frozen=True, slots=True)
class Proxy:
    """An action unit, or two that a blendshape cannot tell apart, and the blendshapes whose mean stands for it."""

    name: str
    shapes: tuple[str, ...]


PROXIES = (
    Proxy("AU1", ("browInnerUp",)),
    Proxy("AU2", ("browOuterUpLeft", "browOuterUpRight")),
    Proxy("AU4", ("browDownLeft", "browDownRight")),
    Proxy("AU6+7", ("eyeSquintLeft", "eyeSquintRight")),
    Proxy("AU10", ("mouthUpperUpLeft", "mouthUpperUpRight")),
    Proxy("AU12", ("mouthSmileLeft", "mouthSmileRight")),
    Proxy("AU14", ("mouthDimpleLeft", "mouthDimpleRight")),
    Proxy("AU16", ("mouthLowerDownLeft", "mouthLowerDownRight")),
    Proxy("AU18", ("mouthPucker",)),
    Proxy("AU24", ("mouthPressLeft", "mouthPressRight")),
    Proxy("AU26", ("jawOpen",)),
    Proxy("AU45", ("eyeBlinkLeft", "eyeBlinkRight")),
)
PROXY_NAMES = tuple(proxy.name for proxy in PROXIES)


def proxy_scores(blendshapes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean of the blendshapes that stand for each action unit.

    blendshapes: [N, 52] 0..1 in MediaPipe's order. Returns [N, 12] 0..1 in the order of PROXIES.
    Raises AdaptationError: another number of blendshapes.
    """
    if blendshapes.ndim != 2 or blendshapes.shape[1] != len(BLENDSHAPES):
        raise AdaptationError(
            f"blendshapes must be [N, {len(BLENDSHAPES)}] in MediaPipe's order, got {list(blendshapes.shape)}"
        )
    columns = [blendshapes[:, [BLENDSHAPES.index(shape) for shape in proxy.shapes]] for proxy in PROXIES]
    return np.stack([column.mean(axis=1, dtype=np.float64) for column in columns], axis=1)


def proxy_labels(blendshapes: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which action units are on in each frame of ONE recording, as its own median decides.

    blendshapes: [N, 52] of the whole recording. Returns [N, 12] in the order of PROXIES: True where the score exceeds
    both the recording's median + 0.15 and 0.2. Raises AdaptationError: another number of blendshapes.
    """
    scores = proxy_scores(blendshapes)
    on: NDArray[np.bool_] = (scores > np.median(scores, axis=0) + ABOVE_MEDIAN) & (scores > FLOOR)
    return on
