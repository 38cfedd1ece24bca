"""Screening: what a snapshot must be before anything is learned from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from psm_stream.sections import Section

if TYPE_CHECKING:
    from psm_adapt.adaptation.snapshot import Snapshot


class ScreenSettings(Section):
    """What is asked of the faces."""

    fewest: int = Field(default=100, ge=8)
    """Faces that must remain."""


@dataclass(frozen=True, slots=True)
class Screening:
    """What of a snapshot may be learned from."""

    rows: NDArray[np.int64]
    """Rows of the snapshot that are kept, in order; empty when it is refused."""
    refused: str
    """Why nothing is learned from it, one line; "" if something is."""
    figures: dict[str, float]


def screen(snapshot: Snapshot, settings: ScreenSettings) -> Screening:
    """Look at a snapshot before training."""
    rows, figures = _one_face(snapshot.face_id)
    if len(rows) < settings.fewest:
        refused = f"too few faces: {len(rows)} of one person, at least {settings.fewest} are needed"
        return Screening(rows[:0], refused, figures)
    return Screening(rows, "", figures)


def _one_face(face_id: NDArray[np.int32]) -> tuple[NDArray[np.int64], dict[str, float]]:
    """Return the rows of the most frequent face, the lowest id of equals."""
    ids, counts = np.unique(face_id, return_counts=True)
    figures = {"faces": float(len(face_id)), "face_ids": float(len(ids))}
    if not len(ids):
        return np.zeros(0, np.int64), figures
    return np.flatnonzero(face_id == ids[counts.argmax()]), figures
