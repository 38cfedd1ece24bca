"""The columns of the exported table: OpenFace's names where they mean the same, ours for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.values import AlignedFace, Stamp

POSE = ("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz")

_MM_IN_CM = 10.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How many columns a session needs: of landmarks, of the embedding, of blendshapes, and whether of head pose."""

    landmarks: int = 0
    dimension: int = 0
    blendshapes: int = 0
    has_pose: bool = False


@dataclass(slots=True)
class Row:
    """A face, or a frame without one, and what was published of it. timestamp: s, from the beginning."""

    frame: Stamp
    timestamp: float
    face: AlignedFace | None = None
    reason: str | None = None
    header: Mapping[str, Any] = field(default_factory=dict)
    vector: NDArray[np.float32] | None = None


def columns(shape: Shape) -> pa.Schema:
    """Return the table's columns: OpenFace's first and in its order, then ours."""
    fields = [
        ("frame", pa.int64()),
        ("face_id", pa.int32()),
        ("timestamp", pa.float64()),
        ("confidence", pa.float64()),
        ("success", pa.int8()),
        *((name, pa.float32()) for name in POSE if shape.has_pose),
        *((f"x_{number}", pa.float32()) for number in range(shape.landmarks)),
        *((f"y_{number}", pa.float32()) for number in range(shape.landmarks)),
        ("t_capture", pa.float64()),
        ("t_source", pa.float64()),
        ("label", pa.string()),
        ("reason", pa.string()),
        ("model_id", pa.string()),
        ("model_epoch", pa.int32()),
        ("cluster", pa.int32()),
        ("cluster_strength", pa.float64()),
        ("cluster_version", pa.int32()),
        *((f"emb_{number}", pa.float32()) for number in range(shape.dimension)),
        *((name, pa.float32()) for name in blendshape_names(shape.blendshapes)),
    ]
    return pa.schema(fields)


def batch(rows: Sequence[Row], shape: Shape) -> pa.RecordBatch:
    """Return rows as columns. What is missing is null."""
    faces = [row.face for row in rows]
    one_each: list[Iterable[Any]] = [
        [row.frame.index for row in rows],
        [-1 if face is None else face.face_id for face in faces],
        [row.timestamp for row in rows],
        [0.0 if face is None else face.confidence for face in faces],
        [int(face is not None) for face in faces],
        *(_blocks(faces, lambda face: None if face.pose is None else openface_pose(face.pose), 6 * shape.has_pose)),
        *(_blocks(faces, lambda face: face.landmarks[:, 0], shape.landmarks)),
        *(_blocks(faces, lambda face: face.landmarks[:, 1], shape.landmarks)),
        [row.frame.t_capture for row in rows],
        [row.frame.t_source for row in rows],
        [row.frame.label or None for row in rows],
        [row.reason for row in rows],
        *([row.header.get(key) for row in rows] for key in ("model_id", "model_epoch", "cluster")),
        *([row.header.get(key) for row in rows] for key in ("cluster_strength", "cluster_version")),
        *(_blocks(rows, lambda row: row.vector, shape.dimension)),
        *(_blocks(faces, lambda face: face.blendshapes, shape.blendshapes)),
    ]
    schema = columns(shape)
    # from_pandas: NaN becomes null, which every reader of CSV and parquet takes for missing
    arrays = [pa.array(values, kind, from_pandas=True) for values, kind in zip(one_each, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def blendshape_names(count: int) -> tuple[str, ...]:
    """Return a column name for each blendshape: MediaPipe's where there are as many as MediaPipe gives."""
    return BLENDSHAPES if count == len(BLENDSHAPES) else tuple(f"blendshape_{number}" for number in range(count))


def openface_pose(pose: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return OpenFace's pose_Tx, Ty, Tz [mm] and pose_Rx, Ry, Rz [rad] of a head pose.

    pose: [4, 4], MediaPipe's facial transformation matrix: cm, x right, y up, z towards the viewer. OpenFace's camera
    has x right, y down, z away from it, and its rotation is R = Rx Ry Rz. A face turned straight to the camera has 0.
    A matrix that is no rotation (times a size) gives NaN.
    """
    flip = np.diag([1.0, -1.0, -1.0])
    rotation = flip @ pose[:3, :3].astype(np.float64) @ flip
    volume = float(np.linalg.det(rotation))
    if not volume > 0:
        return np.full(6, math.nan)
    rotation /= np.cbrt(volume)
    x = math.atan2(-rotation[1, 2], rotation[2, 2])
    y = math.asin(float(np.clip(rotation[0, 2], -1, 1)))
    z = math.atan2(-rotation[0, 1], rotation[0, 0])
    return np.concatenate([flip @ pose[:3, 3] * _MM_IN_CM, [x, y, z]])


def _blocks(items: Sequence[Any], values_of: Callable[[Any], NDArray[Any] | None], width: int) -> NDArray[np.float32]:
    """Return [width, rows] float32: one column for each of the item's values, NaN where it has none."""
    block = np.full((width, len(items)), math.nan, np.float32)
    for place, item in enumerate(items if width else ()):
        values = None if item is None else values_of(item)
        if values is not None:
            block[: len(values), place] = values
    return block
