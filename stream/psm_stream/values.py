"""The values that flow through psm-stream: frames, faces, embeddings and orders.

All are frozen. Arrays inside them are never written to after the value is made.
Times are seconds on the process's monotonic clock (`time.monotonic`), unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from psm_stream.clusters.clustering import Clustering
    from psm_stream.encoder import Encoder

NAN = float("nan")

Image: TypeAlias = NDArray[np.uint8]
"""[H, W, 3] RGB, 0..255."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which frame, and when.

    index: position among the frames that the source captured, from 0; a gap is a dropped frame.
    t_capture: when the frame was captured.
    t_source: the frame's own time in its medium (file or stream time, seconds from its start); NaN if none.
    label: what the source itself knows about this frame (the demo's true expression), or "".
    dropped: how many frames between the previous delivered frame and this one were lost, by cause.
    """

    index: int
    t_capture: float
    t_source: float = NAN
    label: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured picture. image: [H, W, 3] RGB uint8."""

    stamp: Stamp
    image: Image


EYE_DISTANCE = 0.38
"""Distance of the eye centres in our own template, as a share of the crop's side (align/template.py)."""


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """One face of one frame, warped to the canonical crop.

    crop: [S, S, 3] RGB uint8, eyes level.
    landmarks: [478, 2] float32, pixels of the source frame, origin top left.
    to_crop: [2, 3] float32, affine map from source pixels to crop pixels.
    confidence: 0..1, the landmark network's own face-presence score.
    blendshapes: [52] float32 0..1 in MediaPipe's order, or None where the aligner gives none.
    pose: [4, 4] float32 head pose (MediaPipe's facial transformation matrix, cm), or None.
    eye_distance: what its template makes of the distance of the eye centres, as a share of the crop's side.
    """

    frame: Stamp
    face_id: int
    crop: Image
    landmarks: NDArray[np.float32]
    to_crop: NDArray[np.float32]
    confidence: float
    blendshapes: NDArray[np.float32] | None = None
    pose: NDArray[np.float32] | None = None
    eye_distance: float = EYE_DISTANCE


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of one frame, at least one, in order of face id."""

    frame: Stamp
    faces: tuple[AlignedFace, ...]


@dataclass(frozen=True, slots=True)
class NoFace:
    """A frame without a usable face: a value, so that gaps stay visible downstream."""

    frame: Stamp
    reason: str


@dataclass(frozen=True, slots=True)
class Marker:
    """An event that the experiment reports. t: when it arrived here. origin: "control", "remote" or "source"."""

    label: str
    t: float
    origin: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SwapEncoder:
    """From the next frame on, use `encoder`. reason: who asked ("revert", "adapt", "replay")."""

    encoder: Encoder
    reason: str


@dataclass(frozen=True, slots=True)
class Recluster:
    """From the next frame on, vectors of the encoder `clustering.model_id` are assigned by `clustering`.

    One that is for another encoder than runs is kept until that one runs. reason: "first", "rule", "order", "swap",
    "person", "vocabulary" or "replay".
    """

    clustering: Clustering
    reason: str


@dataclass(frozen=True, slots=True)
class NameCluster:
    """From the next frame on, a cluster is called `name`; "" takes its name away."""

    cluster: int
    name: str


@dataclass(frozen=True, slots=True)
class Present:
    """These faces are there already: the pipeline goes on from here, as a recording that began in mid-run does."""

    face_ids: tuple[int, ...]


Sighting: TypeAlias = Faces | NoFace
"""What the aligner says of one frame."""

Input: TypeAlias = Faces | NoFace | Marker | SwapEncoder | Recluster | NameCluster | Present
"""Everything that the pipeline folds over, in order; a recorded session is a list of these."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where one vector falls.

    cluster: id, which means the same all session long, or -1: noise, or no clusters yet.
    strength: 0..1, how firmly it belongs there, 0 for noise; outlier: 0..1, how far out it lies (GLOSH: Campello et
    al. 2015, of new points as in McInnes's hdbscan); both NaN while there are no clusters.
    version: of the clustering, 0 while there is none. name: what the user calls the cluster, or "".
    token: of a vocabulary ("c12", "<unk>"), or "".
    """

    cluster: int = -1
    strength: float = NAN
    outlier: float = NAN
    version: int = 0
    name: str = ""
    token: str = ""


UNASSIGNED = Assignment()


@dataclass(frozen=True, slots=True)
class Embedding:
    """What the encoder says of one face.

    vector: [D] float32. model_epoch: 0 for the first encoder of the session, +1 with each swap.
    assignment: its cluster.
    """

    face: AlignedFace
    vector: NDArray[np.float32]
    model_id: str
    model_epoch: int
    assignment: Assignment = UNASSIGNED


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened, published as `notify.<subject>`. fields: plain values."""

    subject: str
    t: float
    fields: Mapping[str, Any] = field(default_factory=dict)


Result: TypeAlias = Embedding | NoFace | Marker | Notice
"""Everything that the pipeline gives out, in order."""
