"""What a mirrored face is called: blendshapes and landmarks of the left side become those of the right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from psm_adapt.data.columns import CROP_PX
from psm_stream.blendshapes import BLENDSHAPES


def mirrored_blendshapes() -> NDArray[np.int64]:
    """Return [52]: where in a face's blendshapes those of its mirror image are."""
    other = {"Left": "Right", "Right": "Left"}
    place = {name: n for n, name in enumerate(BLENDSHAPES)}
    twins = []
    for name in BLENDSHAPES:
        side = next((side for side in other if name.endswith(side)), None)
        twins.append(place[name if side is None else name.removesuffix(side) + other[side]])
    return np.array(twins)


def mirrored_landmarks(mean_face: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return [478]: where in a face's landmarks those of its mirror image are.

    mean_face: [478, 2] px of the crop, the mean of many faces, nearly symmetric. Landmarks are paired one to one so
    that the mirrored mean face lies nearest to itself; a pair is always mutual.
    """
    mirrored = mirror_points(mean_face)
    distance = np.linalg.norm(mirrored[:, None] - mean_face[None], axis=-1)
    distance = distance + distance.T  # mutual pairs cost the same both ways
    twins: NDArray[np.int64] = linear_sum_assignment(distance)[1]
    mutual = twins[twins] == np.arange(len(twins))
    return np.where(mutual, twins, distance.argmin(1))


def mirror_points(points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Mirror points [..., 2] px of the crop about its vertical axis; their order is left as it is."""
    return np.stack([CROP_PX - 1 - points[..., 0], points[..., 1]], axis=-1)
