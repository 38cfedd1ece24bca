"""What a clustering method is: it fits vectors, slowly and in a process of its own, and assigns one at a time, fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from psm_stream.config import ClustersSettings
from psm_stream.errors import ClusteringError

Fitted: TypeAlias = Mapping[str, NDArray[Any]]
"""Everything that assigning needs: plain arrays, which are sent between processes, recorded and run again."""
Assigner: TypeAlias = Callable[[NDArray[np.float32]], tuple[int, float, float]]
"""Says where a vector [D] (units [U], where the method takes these) falls: its label, or -1 for noise; its strength,
0..1, and 0 for noise; how much of an outlier it is, 0..1. The same vector gives the same to the bit. For one thread: it
may keep room between calls. A vector that is not finite is noise."""
NOISE = -1
NOWHERE = (NOISE, 0.0, 1.0)
"""Where a vector falls that is in no cluster and far from all."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a method makes of n vectors.

    labels: [n] int32, -1 for noise, else 0..L-1, each at least once (of a vocabulary's words, some may be nowhere).
    strengths: [n] float32, 0..1, and 0 for noise.
    fitted: what `Method.assigner` needs.
    """

    labels: NDArray[np.int32]
    strengths: NDArray[np.float32]
    fitted: Fitted


class Method(Protocol):
    """An entry of `METHODS`."""

    @property
    def name(self) -> str:
        """Its key in the table."""

    def takes(self, fitted: Fitted) -> Literal["vector", "units"]:
        """Say what is assigned: the embedding, or the action units of the face (`psm_stream.clusters.units`)."""

    def fit(self, vectors: NDArray[np.float32], settings: ClustersSettings) -> Fit:
        """Fit vectors [n, D]. Slow; imports what it needs. The same vectors give the same to the bit.

        Raises ClusteringError: there is nothing to fit, or it is not finite.
        """

    def assigner(self, fitted: Fitted) -> Assigner:
        """Make ready to assign. Fast; for the live process, which imports none of what fitting needs."""

    def tokens(self, fitted: Fitted) -> Callable[[int], str] | None:
        """Return what says the token of a label, or None where labels have none."""


def checked(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return vectors [n, D] as float64. Raises ClusteringError: they are not [n, D], there is none, or not finite."""
    if vectors.ndim != 2 or not vectors.size:
        raise ClusteringError(f"vectors to fit must be [n, D] with at least one, got {list(vectors.shape)}")
    broken = int(np.sum(~np.isfinite(vectors).all(axis=1)))
    if broken:
        raise ClusteringError(f"{broken} of {len(vectors)} vectors are not finite; is the encoder's bundle broken?")
    return vectors.astype(np.float64)
