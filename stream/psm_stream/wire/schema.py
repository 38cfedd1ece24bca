"""The wire's vocabulary: schema version, topics and header keys.

`SCHEMA` goes up by one when a key or topic is renamed, removed or changes its meaning; a new key or topic leaves it.
docs/wire.md prints these tables, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Key:
    """One header key. missing: what stands there when there is nothing to say ("-" if that cannot be)."""

    name: str
    type: str
    unit: str
    missing: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Topic:
    """One kind of message. payload: dtype and shape. keys: header keys beyond the common ones."""

    topic: str
    payload: str
    keys: tuple[str, ...]
    meaning: str

    @property
    def kind(self) -> str:
        """The part before the first dot."""
        return self.topic.partition(".")[0]


HEADER = (
    Key("schema", "int", "", "-", "version of this table"),
    Key("topic", "str", "", "-", "same text as the first part"),
    Key("seq", "int", "", "-", "0, 1, 2, ... per topic and session; a gap is a message that this subscriber lost"),
    Key("session", "str", "", "-", "uuid of the run, 32 hex digits"),
    Key("frame_index", "int", "", "-1", "position among the captured frames; a gap is a dropped frame"),
    Key("t_capture", "float", "s, monotonic", "NaN", "when the frame was captured"),
    Key("t_source", "float", "s, from the source's start", "NaN", "the frame's own time in its file or stream"),
    Key("t_publish", "float", "s, monotonic", "-", "when the message was made, just before it was sent"),
    Key("face_id", "int", "", "-1", "stable number of the face"),
    Key("confidence", "float", "0..1", "NaN", "presence score of the face"),
    Key("model_id", "str", "", '""', "encoder that made the vector, 12 hex digits"),
    Key("model_epoch", "int", "", "0", "0 for the session's first encoder, +1 with each swap"),
    Key("cluster", "int", "", "-1", "cluster of the vector; -1 for none"),
    Key("cluster_strength", "float", "0..1", "NaN", "how firmly it belongs there"),
    Key("cluster_version", "int", "", "0", "which clustering; +1 with each that is made"),
    Key("dtype", "str", "", '""', 'numpy name of the payload\'s numbers, "json", "utf8", or "" for no payload'),
    Key("shape", "list of int", "", "[]", "of the payload; its length in bytes for json and utf8"),
)

TOPICS = (
    Topic("embedding.<face>", "<f4 [D]", (), "one face of one frame, encoded; D = 256 with FaceCycle"),
    Topic(
        "face.<face>",
        "<f4 [478, 2]",
        ("box", "to_crop", "pose"),
        "landmarks in pixels of the source frame; box [x0, y0, x1, y1] px around them; to_crop: 6 floats, the affine "
        "map [2, 3] row by row from source to crop pixels; pose: 16 floats [4, 4] row by row (cm), only if there",
    ),
    Topic("blendshapes.<face>", "<f4 [52]", (), "0..1 in MediaPipe's order; only with the Face Landmarker"),
    Topic(
        "cluster.<face>",
        "none",
        ("outlier", "name", "token"),
        "the cluster of one face of one frame, once there are clusters; outlier: 0..1, how far out it lies; name: what "
        "the user calls the cluster, or empty; token: of a vocabulary, or empty",
    ),
    Topic(
        "marker.<origin>",
        "utf8 [n]",
        ("label", "t_marker", "fields"),
        "an event; origin is control, remote or source; t_marker: when it arrived (s, monotonic); "
        "fields: what the sender added",
    ),
    Topic("notify.<subject>", "none", ("t_notice", "..."), "something happened; the facts are header keys"),
    Topic("stats.pipeline", "json [n]", (), "the summary so far, at 1 Hz"),
    Topic(
        "stats.clusters",
        "json [n]",
        (),
        "what each cluster means: action units, prototypes, dwell times, transitions; with each clustering and name, "
        "and every 10 s",
    ),
    Topic("heartbeat.psm", "none", (), "every 2 s, whatever else happens"),
    Topic("log.<level>", "utf8 [n]", ("t_log",), "a line for people; level is info, warning or error"),
    Topic("latest.00", "<f4 [D]", ("reason",), "only on the `latest` port; reason: why there is no face, else absent"),
)

KINDS = tuple(topic.kind for topic in TOPICS)


def as_dict() -> dict[str, Any]:
    """Everything above as plain values: the answer to the control command SCHEMA."""
    return {"schema": SCHEMA, "header": [asdict(key) for key in HEADER], "topics": [asdict(topic) for topic in TOPICS]}
