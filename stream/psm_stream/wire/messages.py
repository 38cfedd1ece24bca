"""From results to messages: three parts of bytes each, and one part for `latest`.

A message is `topic`, `header`, `payload`. The header is a msgpack map (or JSON) with the keys of `schema.HEADER` in
that order, then the topic's own keys. The payload is a raw little-endian array, UTF-8 text, JSON or nothing, as the
header's `dtype` and `shape` say. docs/wire.md shows the bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgpack
import numpy as np
from numpy.typing import NDArray

from psm_stream.values import NAN, AlignedFace, Embedding, Marker, NoFace, Notice, Result, Stamp
from psm_stream.wire.schema import HEADER, SCHEMA

HeaderFormat = Literal["msgpack", "json"]

NAN_F4 = b"\x00\x00\xc0\x7f"
"""The one little-endian float32 NaN that we send."""

_OURS = frozenset({"schema", "topic", "seq", "session", "t_publish", "dtype", "shape"})
"""Header keys that a notice must not claim for itself."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, ready to send."""

    topic: str
    header: bytes
    payload: bytes

    @property
    def kind(self) -> str:
        """The part of the topic before the first dot."""
        return self.topic.partition(".")[0]

    def parts(self) -> tuple[bytes, bytes, bytes]:
        """The three parts as they go over the publisher."""
        return self.topic.encode(), self.header, self.payload

    def framed(self) -> bytes:
        """Header and payload as one part: `<u4 header length><header><payload>`."""
        return b"".join((_LENGTH.pack(len(self.header)), self.header, self.payload))


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line for people, published as `log.<level>`. level: "info", "warning" or "error"."""

    level: str
    text: str
    t: float


class MessageBuilder:
    """Makes messages and owns their numbering. One thread; `clock` gives t_publish.

    session: uuid of the run, 32 hex digits.
    """

    def __init__(self, session: str, header_format: HeaderFormat, clock: Callable[[], float]) -> None:
        self._blank = _blank_header(session)
        self._encode = json_bytes if header_format == "json" else msgpack.Packer(autoreset=True).pack
        self._clock = clock
        self._next_seq: dict[str, int] = {}

    def build(self, result: Result) -> list[Message]:
        """Everything that the publisher sends for one result, in order; nothing for a frame without a face."""
        if isinstance(result, Embedding):
            messages = [self.embedding(result), self.face(result.face)]
            if result.assignment.version:
                messages.append(self.cluster(result))
            if result.face.blendshapes is not None:
                messages.append(self.blendshapes(result.face, result.face.blendshapes))
            return messages
        if isinstance(result, Marker):
            return [self.marker(result)]
        if isinstance(result, Notice):
            return [self.notice(result)]
        return []

    def embedding(self, embedding: Embedding) -> Message:
        """`embedding.NN`: the vector."""
        about = _about_face(embedding.face) | _about_model(embedding)
        return self._array(f"embedding.{embedding.face.face_id:02d}", about, embedding.vector)

    def cluster(self, embedding: Embedding) -> Message:
        """`cluster.NN`: where the vector falls, in more detail than its own message has it."""
        assignment = embedding.assignment
        more = {"outlier": float(assignment.outlier), "name": assignment.name, "token": assignment.token}
        about = _about_face(embedding.face) | _about_model(embedding) | more
        return self._message(f"cluster.{embedding.face.face_id:02d}", about, "", [], b"")

    def face(self, face: AlignedFace) -> Message:
        """`face.NN`: the landmarks, with box, map to the crop, and pose if there is one."""
        about = _about_face(face) | {"box": _box(face.landmarks), "to_crop": face.to_crop.ravel().tolist()}
        if face.pose is not None:
            about["pose"] = face.pose.ravel().tolist()
        return self._array(f"face.{face.face_id:02d}", about, face.landmarks)

    def blendshapes(self, face: AlignedFace, blendshapes: NDArray[np.float32]) -> Message:
        """`blendshapes.NN`: the 52 weights."""
        return self._array(f"blendshapes.{face.face_id:02d}", _about_face(face), blendshapes)

    def marker(self, marker: Marker) -> Message:
        """`marker.<origin>`: the label as payload, too."""
        about = {"label": marker.label, "t_marker": marker.t, "fields": dict(marker.fields)}
        return self._text(f"marker.{marker.origin}", about, marker.label)

    def notice(self, notice: Notice) -> Message:
        """`notify.<subject>`: its fields become header keys.

        Raises ValueError: a field has the name of a key that every message fills itself.
        """
        claimed = _OURS.intersection(notice.fields)
        if claimed:
            raise ValueError(f"notice {notice.subject!r} must not set the header key {min(claimed)!r}")
        return self._message(f"notify.{notice.subject}", {"t_notice": notice.t, **notice.fields}, "", [], b"")

    def stats(self, summary: Mapping[str, Any], leaf: str = "pipeline") -> Message:
        """`stats.<leaf>`: statistics as JSON, of the pipeline (the summary) or of its clusters."""
        payload = json_bytes(summary)
        return self._message(f"stats.{leaf}", {}, "json", [len(payload)], payload)

    def heartbeat(self) -> Message:
        """`heartbeat.psm`: a sign of life."""
        return self._message("heartbeat.psm", {}, "", [], b"")

    def log(self, line: LogLine) -> Message:
        """`log.<level>`: a line for people."""
        return self._text(f"log.{line.level}", {"t_log": line.t}, line.text)

    def latest(self, embedding: Embedding) -> Message:
        """`latest.00`: the embedding of a frame's first face, for the `latest` port."""
        return self._array("latest.00", _about_face(embedding.face) | _about_model(embedding), embedding.vector)

    def latest_without_face(self, no_face: NoFace, dimension: int, model_id: str, model_epoch: int) -> Message:
        """`latest.00` of a frame without a face: a vector of NaN, so that no reader takes an old one for new."""
        about = _about_frame(no_face.frame) | {
            "confidence": 0.0,
            "model_id": model_id,
            "model_epoch": model_epoch,
            "reason": no_face.reason,
        }
        return self._message("latest.00", about, "<f4", [dimension], NAN_F4 * dimension)

    def _array(self, topic: str, about: Mapping[str, Any], array: NDArray[np.float32]) -> Message:
        payload = np.asarray(array, dtype="<f4").tobytes()
        return self._message(topic, about, "<f4", list(array.shape), payload)

    def _text(self, topic: str, about: Mapping[str, Any], text: str) -> Message:
        payload = text.encode()
        return self._message(topic, about, "utf8", [len(payload)], payload)

    def _message(self, topic: str, about: Mapping[str, Any], dtype: str, shape: list[int], payload: bytes) -> Message:
        seq = self._next_seq.get(topic, 0)
        header = self._blank.copy()  # keeps the order of the keys; what is new in `about` comes after them
        header["topic"] = topic
        header["seq"] = seq
        header["dtype"] = dtype
        header["shape"] = shape
        header.update(about)
        header["t_publish"] = self._clock()
        message = Message(topic, self._encode(header), payload)
        self._next_seq[topic] = seq + 1  # after encoding, so that a message that cannot be made leaves no gap
        return message


def _blank_header(session: str) -> dict[str, Any]:
    """Every common key in order, with its missing value."""
    missing: dict[str, Any] = {"NaN": NAN, "-1": -1, "0": 0, '""': "", "[]": [], "-": None}
    return {key.name: missing[key.missing] for key in HEADER} | {"schema": SCHEMA, "session": session}


def _box(landmarks: NDArray[np.float32]) -> list[float]:
    x, y = np.ascontiguousarray(landmarks.T)  # rows: four times faster to reduce than columns
    return [float(x.min()), float(y.min()), float(x.max()), float(y.max())]


def _about_frame(frame: Stamp) -> dict[str, Any]:
    return {"frame_index": frame.index, "t_capture": frame.t_capture, "t_source": frame.t_source}


def _about_face(face: AlignedFace) -> dict[str, Any]:
    return _about_frame(face.frame) | {"face_id": face.face_id, "confidence": float(face.confidence)}


def _about_model(embedding: Embedding) -> dict[str, Any]:
    return {
        "model_id": embedding.model_id,
        "model_epoch": embedding.model_epoch,
        "cluster": embedding.assignment.cluster,
        "cluster_strength": float(embedding.assignment.strength),
        "cluster_version": embedding.assignment.version,
    }


def json_bytes(values: Any) -> bytes:
    """Strict JSON: NaN and infinities, which JSON lacks, become null."""
    return json.dumps(_finite(values), allow_nan=False, separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
