"""Inputs as bytes and back: one msgpack map per log record, exact to the bit.

Times and confidences are float64, arrays little-endian bytes. A crop is stored as row differences: row r minus row
r - 1, modulo 256, row 0 as it is (`numpy.cumsum(rows, axis=0, dtype=uint8)` undoes it). With the log's zstd chunks
that is as small as PNG level 1 and costs a tenth of its time (docs/session.md has the measurement).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgpack
import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.clustering import Change, Clustering
from psm_stream.errors import SessionError
from psm_stream.values import (
    EYE_DISTANCE,
    AlignedFace,
    Faces,
    Image,
    Marker,
    NameCluster,
    NoFace,
    Present,
    Recluster,
    Stamp,
)

CROP_LIMIT_PX = 2048
_PLAIN_DEPTH = 16
_ARRAY_KINDS = "biufU"
"""numpy kinds that an array of a clustering may have: none that could hold an object."""


@dataclass(frozen=True, slots=True)
class Start:
    """The encoder in use when the recording began, so that a replay begins in the same state."""

    model_id: str
    model_epoch: int


@dataclass(frozen=True, slots=True)
class Swap:
    """A recorded SwapEncoder: the encoder itself is the bundle in `models/<model_id>/`."""

    model_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """Where a captured frame is in video.mkv. pts_ms: its presentation time there."""

    index: int
    pts_ms: int


Record: TypeAlias = Start | Swap | VideoFrame | Faces | NoFace | Marker | Recluster | NameCluster | Present
"""Everything that is logged on an `input.*` channel."""

_TOPICS: dict[type[Record], str] = {
    Start: "input.start",
    Faces: "input.faces",
    NoFace: "input.noface",
    Marker: "input.marker",
    Swap: "input.swap",
    VideoFrame: "input.video",
    Recluster: "input.recluster",
    NameCluster: "input.name_cluster",
    Present: "input.present",
}


def encode(record: Record) -> tuple[str, bytes]:
    """Return the channel and the bytes of one record."""
    tree = _ENCODERS[type(record)](record)
    return _TOPICS[type(record)], msgpack.packb(tree, unicode_errors="surrogatepass")


def decode(topic: str, body: bytes) -> Record:
    """Return the record that `encode` made. Raises SessionError: unknown channel, or not what that channel carries."""
    decoder = _DECODERS.get(topic)
    if decoder is None:
        raise SessionError(f"unknown channel {topic!r}")
    try:
        tree = msgpack.unpackb(body, unicode_errors="surrogatepass")
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise SessionError(f"a record of {topic} is not msgpack: {error}") from None
    try:
        return decoder(tree)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SessionError(f"a record of {topic} is malformed: {type(error).__name__}: {error}") from None


def plain(value: Any, depth: int = _PLAIN_DEPTH) -> Any:
    """Return value as msgpack can hold it: what has no plain form (or is nested too deep) becomes its text."""
    if value is None or isinstance(value, bool | float | str | bytes):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if depth and isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(inner, depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return [plain(inner, depth - 1) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item(), depth)
    return str(value)


def _stamp_tree(stamp: Stamp) -> dict[str, Any]:
    return {
        "index": int(stamp.index),
        "t_capture": float(stamp.t_capture),
        "t_source": float(stamp.t_source),
        "label": stamp.label,
        "dropped": {cause: int(count) for cause, count in stamp.dropped.items()},
    }


def _stamp(tree: Mapping[str, Any]) -> Stamp:
    return Stamp(
        index=_typed(tree, "index", int),
        t_capture=_typed(tree, "t_capture", float),
        t_source=_typed(tree, "t_source", float),
        label=_typed(tree, "label", str),
        dropped=_typed(tree, "dropped", dict),
    )


def _face_tree(face: AlignedFace) -> dict[str, Any]:
    return {
        "face_id": int(face.face_id),
        "confidence": float(face.confidence),
        "crop_shape": list(face.crop.shape),
        "crop_rows": _row_differences(face.crop),
        "landmarks": _floats(face.landmarks),
        "to_crop": _floats(face.to_crop),
        "blendshapes": None if face.blendshapes is None else _floats(face.blendshapes),
        "pose": None if face.pose is None else _floats(face.pose),
        **({} if face.eye_distance == EYE_DISTANCE else {"eye_distance": float(face.eye_distance)}),
    }


def _face(stamp: Stamp, tree: Mapping[str, Any]) -> AlignedFace:
    return AlignedFace(
        frame=stamp,
        face_id=_typed(tree, "face_id", int),
        crop=_crop(tree),
        landmarks=_array(_typed(tree, "landmarks", bytes), (-1, 2)),
        to_crop=_array(_typed(tree, "to_crop", bytes), (2, 3)),
        confidence=_typed(tree, "confidence", float),
        blendshapes=None if tree["blendshapes"] is None else _array(_typed(tree, "blendshapes", bytes), (-1,)),
        pose=None if tree["pose"] is None else _array(_typed(tree, "pose", bytes), (4, 4)),
        eye_distance=_eye_distance(tree),
    )


def _eye_distance(tree: Mapping[str, Any]) -> float:
    """Of the template; a log says it where it is not ours."""
    share = _typed(tree, "eye_distance", float) if "eye_distance" in tree else EYE_DISTANCE
    if not 0 < share < 1:
        raise ValueError(f"eyes that are {share} of the crop's side apart")
    return share


def _row_differences(crop: Image) -> bytes:
    rows = crop.copy()
    rows[1:] -= crop[:-1]
    return rows.tobytes()


def _crop(tree: Mapping[str, Any]) -> Image:
    height, width, channels = _typed(tree, "crop_shape", list)
    body = _typed(tree, "crop_rows", bytes)
    sides_fit = all(isinstance(side, int) and 0 < side <= CROP_LIMIT_PX for side in (height, width))
    if not sides_fit or channels != 3 or len(body) != height * width * channels:
        raise ValueError(f"a crop of shape {[height, width, channels]} does not fit its {len(body)} bytes")
    rows = np.frombuffer(body, np.uint8).reshape(height, width, channels)
    crop: Image = np.cumsum(rows, axis=0, dtype=np.uint8)
    crop.flags.writeable = False
    return crop


def _floats(values: NDArray[np.float32]) -> bytes:
    return values.astype("<f4", copy=False).tobytes()


def _array(body: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.frombuffer(body, "<f4").astype(np.float32, copy=False).reshape(shape)


def _typed(tree: Mapping[str, Any], key: str, kind: type) -> Any:
    value = tree[key]
    if type(value) is not kind:
        raise TypeError(f"{key} is {type(value).__name__}, expected {kind.__name__}")
    return value


def _decode_faces(tree: Mapping[str, Any]) -> Faces:
    stamp = _stamp(tree)
    faces = tuple(_face(stamp, face) for face in _typed(tree, "faces", list))
    if not faces:
        raise ValueError("faces is empty")
    return Faces(stamp, faces)


def _decode_marker(tree: Mapping[str, Any]) -> Marker:
    return Marker(
        label=_typed(tree, "label", str),
        t=_typed(tree, "t", float),
        origin=_typed(tree, "origin", str),
        fields=_typed(tree, "fields", dict),
    )


def _clustering_tree(record: Recluster) -> dict[str, Any]:
    clustering = record.clustering
    return {
        "reason": record.reason,
        "method": clustering.method,
        "model_id": clustering.model_id,
        "version": clustering.version,
        "points": clustering.points,
        "ids": clustering.ids.tolist(),
        "changes": [[one.kind, one.cluster, list(one.others), one.points] for one in clustering.changes],
        "fitted": {name: _array_tree(array) for name, array in clustering.fitted.items()},
    }


def _decode_recluster(tree: Mapping[str, Any]) -> Recluster:
    changes = (
        Change(kind, int(cluster), tuple(map(int, others)), int(points))
        for kind, cluster, others, points in _typed(tree, "changes", list)
    )
    clustering = Clustering(
        method=_typed(tree, "method", str),
        model_id=_typed(tree, "model_id", str),
        version=_typed(tree, "version", int),
        ids=np.array(_typed(tree, "ids", list), np.int32),
        changes=tuple(changes),
        fitted={name: _any_array(array) for name, array in _typed(tree, "fitted", dict).items()},
        points=_typed(tree, "points", int),
    )
    return Recluster(clustering, _typed(tree, "reason", str))


def _array_tree(array: NDArray[Any]) -> dict[str, Any]:
    if array.dtype.kind not in _ARRAY_KINDS:
        raise ValueError(f"an array of {array.dtype} cannot be recorded")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {"dtype": little.dtype.str, "shape": list(array.shape), "body": little.tobytes()}


def _any_array(tree: Mapping[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(_typed(tree, "dtype", str))
    if dtype.kind not in _ARRAY_KINDS:
        raise ValueError(f"an array of {dtype} is not one that is recorded")
    return np.frombuffer(_typed(tree, "body", bytes), dtype).reshape(_typed(tree, "shape", list))


_ENCODERS: dict[type[Record], Callable[[Any], dict[str, Any]]] = {
    Faces: lambda faces: _stamp_tree(faces.frame) | {"faces": [_face_tree(face) for face in faces.faces]},
    NoFace: lambda no_face: _stamp_tree(no_face.frame) | {"reason": no_face.reason},
    Marker: lambda marker: {
        "label": marker.label,
        "t": float(marker.t),
        "origin": marker.origin,
        "fields": plain(marker.fields),
    },
    Start: lambda start: {"model_id": start.model_id, "model_epoch": start.model_epoch},
    Swap: lambda swap: {"model_id": swap.model_id, "reason": swap.reason},
    VideoFrame: lambda frame: {"index": frame.index, "pts_ms": frame.pts_ms},
    Recluster: _clustering_tree,
    NameCluster: lambda order: {"cluster": order.cluster, "name": order.name},
    Present: lambda present: {"face_ids": list(present.face_ids)},
}

_DECODERS: dict[str, Callable[[Mapping[str, Any]], Record]] = {
    "input.start": lambda tree: Start(_typed(tree, "model_id", str), _typed(tree, "model_epoch", int)),
    "input.faces": _decode_faces,
    "input.noface": lambda tree: NoFace(_stamp(tree), _typed(tree, "reason", str)),
    "input.marker": _decode_marker,
    "input.swap": lambda tree: Swap(_typed(tree, "model_id", str), _typed(tree, "reason", str)),
    "input.video": lambda tree: VideoFrame(_typed(tree, "index", int), _typed(tree, "pts_ms", int)),
    "input.recluster": _decode_recluster,
    "input.name_cluster": lambda tree: NameCluster(_typed(tree, "cluster", int), _typed(tree, "name", str)),
    "input.present": lambda tree: Present(tuple(map(int, _typed(tree, "face_ids", list)))),
}
