"""What a protocol is given: a model, what it says of the frames, and what these show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.features import Model
from psm_adapt.evaluate.labels import Coding
from psm_adapt.evaluate.probe import Recording
from psm_stream.errors import AdaptationError


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under evaluation.

    clips: the frames, labelled ones alone where there are labels. features: [n, D] of each clip; nothing where no
    protocol asked for them. coding: their labels, or None. tested: the people whose results count; the others' frames
    only train probes across people. threads: how many may compute.
    """

    model: Model
    clips: tuple[Clip, ...]
    features: tuple[NDArray[Any], ...]
    coding: Coding | None
    tested: tuple[str, ...]
    threads: int = 1

    @property
    def labelled(self) -> Coding:
        """The labels. Raises AdaptationError: there are none."""
        if self.coding is None:
            raise AdaptationError("this protocol needs labels; give --labels")
        return self.coding

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the action units."""
        return self.labelled.units

    def recordings(self, is_tested_only: bool, columns: Sequence[int] | None = None) -> list[Recording]:
        """Return what the probes take. columns: positions of some action units, all of them by default."""
        some = list(range(len(self.units)) if columns is None else columns)
        return [
            Recording(coded.clip.person, features, coded.labels[:, some], coded.clip.t_s)
            for coded, features in zip(self.labelled.recordings, self.features, strict=True)
            if not is_tested_only or coded.clip.person in self.tested
        ]
