"""Alignment: from a frame to faces in a canonical crop.

An aligner is a callable `Frame -> Faces | NoFace`. It owns the tracks of the faces it follows, starts no thread and
reads no clock. Adding one is a new file and a line in `ALIGNERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from psm_stream.align.crops import SIZE_PX, Crops
from psm_stream.align.quiet import quiet
from psm_stream.config import AlignerSettings
from psm_stream.values import Frame, Sighting

if TYPE_CHECKING:
    from psm_stream.align.facemesh import FaceMeshAligner
    from psm_stream.align.landmarker import LandmarkerAligner


class Aligner(Protocol):
    """Finds, follows and warps faces."""

    name: str

    def __call__(self, frame: Frame) -> Sighting:
        """Align one frame. Frames come in order; the aligner follows faces from one to the next."""

    def warm_up(self) -> None:
        """Run the networks once, so that the first frame is as fast as the next."""

    def close(self) -> None:
        """Free the models. Idempotent."""


def _facemesh(settings: AlignerSettings, crops: Crops) -> FaceMeshAligner:
    from psm_stream.align.facemesh import FaceMeshAligner  # importing mediapipe costs about a second

    return FaceMeshAligner(settings, crops)


def _landmarker(settings: AlignerSettings, crops: Crops) -> LandmarkerAligner:
    from psm_stream.align.landmarker import LandmarkerAligner

    return LandmarkerAligner(settings, crops)


ALIGNERS: dict[str, Callable[[AlignerSettings, Crops], Aligner]] = {"facemesh": _facemesh, "landmarker": _landmarker}


def open_aligner(settings: AlignerSettings, crops: Crops | None = None) -> Aligner:
    """Open the aligner that the settings name, and warm it up. crops: what it makes; None: ours, as large as is set.

    Raises AlignError: its model is missing or foreign.
    """
    name = "landmarker" if settings.model is not None else settings.name
    with quiet():
        aligner = ALIGNERS[name](settings, crops or Crops(size_px=settings.size_px or SIZE_PX))
        aligner.warm_up()
    return aligner
