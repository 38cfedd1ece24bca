"""A clustering: everything that assigning a vector needs, as plain arrays, so that it can be recorded and run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ANY_MODEL = ""
"""model_id of a clustering of action units, which every encoder leaves as they are."""

Kind = Literal["born", "returned", "merged", "split", "moved", "retired"]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one cluster between two clusterings.

    born: a new id. returned: an id that had gone is there again. merged: `cluster` took in `others`, whose ids end.
    split: `others` came out of `cluster`, which goes on. moved: some faces of `others` are in `cluster` now, and
    nothing above says so. retired: nothing carries the id on.
    points: faces of the fit that are in `cluster` (for retired: that were), 0 where there was no fit.
    """

    kind: Kind
    cluster: int
    others: tuple[int, ...] = ()
    points: int = 0

    @property
    def begun(self) -> frozenset[int]:
        """The ids that there are from now on."""
        if self.kind == "split":
            return frozenset(self.others)
        return frozenset({self.cluster} if self.kind in ("born", "returned") else ())

    @property
    def ended(self) -> frozenset[int]:
        """The ids that there are no more."""
        if self.kind == "merged":
            return frozenset(self.others)
        return frozenset({self.cluster} if self.kind == "retired" else ())


@dataclass(frozen=True, slots=True)
class Clustering:
    """One clustering of one encoder's vectors.

    method: a key of `METHODS`. model_id: the encoder, or ANY_MODEL. version: 1, 2, ... in the order of fitting.
    ids: [L] int32, the id of each of the method's own labels 0..L-1. changes: against the one before.
    fitted: the method's arrays. points: how many faces it was fitted on.
    """

    method: str
    model_id: str
    version: int
    ids: NDArray[np.int32]
    changes: tuple[Change, ...]
    fitted: Mapping[str, NDArray[Any]]
    points: int
