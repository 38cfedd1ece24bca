"""Messages: keys and their order, numbering, missing values, payloads."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.values import AlignedFace, Embedding, Marker, NoFace, Notice, Stamp
from psm_stream.wire.messages import LogLine, MessageBuilder
from psm_stream.wire.schema import HEADER, KINDS, SCHEMA, as_dict

SESSION = "0" * 31 + "1"
NAMES = [key.name for key in HEADER]


def face(**changes: object) -> AlignedFace:
    plain = AlignedFace(
        frame=Stamp(12, 100.5, 0.4),
        face_id=3,
        crop=np.zeros((8, 8, 3), np.uint8),
        landmarks=np.array([[10, 40], [30, 20]], np.float32),
        to_crop=np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        confidence=0.75,
    )
    return replace(plain, **changes)


def embedding(aligned: AlignedFace | None = None) -> Embedding:
    return Embedding(aligned or face(), np.array([0, 1, -0.5, 2], np.float32), "0123456789ab", 2)


@pytest.fixture
def builder() -> MessageBuilder:
    return MessageBuilder(SESSION, "msgpack", lambda: 101.0)


def header(message) -> dict:
    return msgpack.unpackb(message.header)


def test_an_embedding_says_which_frame_face_and_model(builder):
    message = builder.embedding(embedding())
    assert message.topic == "embedding.03"
    assert message.payload == struct.pack("<4f", 0, 1, -0.5, 2)
    found = header(message)
    assert math.isnan(found.pop("cluster_strength"))
    assert found == {
        "schema": SCHEMA,
        "topic": "embedding.03",
        "seq": 0,
        "session": SESSION,
        "frame_index": 12,
        "t_capture": 100.5,
        "t_source": 0.4,
        "t_publish": 101.0,
        "face_id": 3,
        "confidence": 0.75,
        "model_id": "0123456789ab",
        "model_epoch": 2,
        "cluster": -1,
        "cluster_version": 0,
        "dtype": "<f4",
        "shape": [4],
    }


def test_a_face_carries_landmarks_box_and_map(builder):
    message = builder.face(face())
    found = header(message)
    assert (found["dtype"], found["shape"]) == ("<f4", [2, 2])
    assert np.frombuffer(message.payload, "<f4").tolist() == [10, 40, 30, 20]
    assert found["box"] == [10, 20, 30, 40]
    assert found["to_crop"] == [1, 2, 3, 4, 5, 6]
    assert "pose" not in found


def test_pose_and_blendshapes_come_when_the_aligner_has_them(builder):
    rich = face(blendshapes=np.linspace(0, 1, 52, dtype=np.float32), pose=np.eye(4, dtype=np.float32))
    messages = builder.build(embedding(rich))
    assert [message.topic for message in messages] == ["embedding.03", "face.03", "blendshapes.03"]
    assert header(messages[1])["pose"] == np.eye(4).ravel().tolist()
    assert header(messages[2])["shape"] == [52]


def every_message(builder):
    return [
        *builder.build(embedding(face(blendshapes=np.zeros(52, np.float32)))),
        *builder.build(Marker("tone", 5.0, "remote", {"trial": 3})),
        *builder.build(Notice("face.found", 6.0, {"face_id": 1, "why": "new"})),
        builder.stats({"fps": math.nan}),
        builder.heartbeat(),
        builder.log(LogLine("warning", "hot", 7.0)),
        builder.latest(embedding()),
        builder.latest_without_face(NoFace(Stamp(13, 1.0), "none"), 4, "0123456789ab", 2),
    ]


@pytest.mark.parametrize("header_format", ["msgpack", "json"])
def test_every_header_has_every_key_in_order_before_its_own(header_format):
    builder = MessageBuilder(SESSION, header_format, lambda: 101.0)
    for message in every_message(builder):
        found = json.loads(message.header) if header_format == "json" else header(message)
        assert list(found)[: len(NAMES)] == NAMES, message.topic
        assert found["topic"] == message.topic
        assert message.kind in KINDS


def test_json_and_msgpack_say_the_same_but_for_missing_floats():
    packed = every_message(MessageBuilder(SESSION, "msgpack", lambda: 101.0))
    text = every_message(MessageBuilder(SESSION, "json", lambda: 101.0))
    for one, other in zip(packed, text, strict=True):
        assert one.payload == other.payload
        spelled = {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in header(one).items()
        }
        assert spelled == json.loads(other.header)


def test_a_marker_travels_as_label_and_text(builder):
    (message,) = builder.build(Marker("Ton 4 äöü", 5.25, "control", {"t": 1}))
    assert message.topic == "marker.control"
    assert message.payload.decode() == "Ton 4 äöü"
    found = header(message)
    assert (found["label"], found["t_marker"], found["fields"]) == ("Ton 4 äöü", 5.25, {"t": 1})
    assert (found["dtype"], found["shape"], found["frame_index"]) == ("utf8", [len(message.payload)], -1)


def test_the_facts_of_a_notice_fill_common_keys_or_follow_them(builder):
    (message,) = builder.build(Notice("face.found", 6.0, {"face_id": 1, "why": "new"}))
    assert message.topic == "notify.face.found"
    assert message.payload == b""
    assert header(message)["face_id"] == 1
    assert list(header(message))[-2:] == ["t_notice", "why"]


@pytest.mark.parametrize("key", ["schema", "topic", "seq", "session", "t_publish", "dtype", "shape"])
def test_a_notice_cannot_claim_what_every_message_fills_itself(builder, key):
    with pytest.raises(ValueError, match=key):
        builder.notice(Notice("ready", 0.0, {key: 1}))


def test_statistics_are_strict_json(builder):
    message = builder.stats({"fps": math.inf, "latency_ms": {"p50": math.nan, "all": [1.5, math.nan]}})
    assert json.loads(message.payload) == {"fps": None, "latency_ms": {"p50": None, "all": [1.5, None]}}
    assert header(message)["shape"] == [len(message.payload)]


def test_a_frame_without_a_face_is_nothing_on_the_publisher_and_nan_on_latest(builder):
    no_face = NoFace(Stamp(13, 102.0), "too small")
    assert builder.build(no_face) == []
    message = builder.latest_without_face(no_face, 4, "0123456789ab", 2)
    found = header(message)
    assert np.isnan(np.frombuffer(message.payload, "<f4")).all()
    assert (found["shape"], found["frame_index"], found["face_id"]) == ([4], 13, -1)
    assert (found["confidence"], found["reason"], found["model_id"]) == (0.0, "too small", "0123456789ab")


def test_framing_puts_the_length_of_the_header_first(builder):
    message = builder.latest(embedding())
    framed = message.framed()
    (length,) = struct.unpack("<I", framed[:4])
    assert framed[4 : 4 + length] == message.header
    assert framed[4 + length :] == message.payload


def test_a_message_that_cannot_be_made_leaves_no_gap(builder):
    with pytest.raises(TypeError):
        builder.notice(Notice("ready", 0.0, {"what": object()}))
    assert header(builder.notice(Notice("ready", 0.0)))["seq"] == 0


@given(st.lists(st.sampled_from(["embedding", "marker", "heartbeat", "latest"]), max_size=30))
def test_each_topic_counts_for_itself_without_gaps(kinds):
    builder = MessageBuilder(SESSION, "msgpack", lambda: 0.0)
    make = {
        "embedding": lambda: builder.embedding(embedding()),
        "marker": lambda: builder.marker(Marker("m", 0.0, "remote")),
        "heartbeat": builder.heartbeat,
        "latest": lambda: builder.latest(embedding()),
    }
    seen: dict[str, int] = {}
    for kind in kinds:
        found = header(make[kind]())
        assert found["seq"] == seen.get(found["topic"], 0)
        seen[found["topic"]] = found["seq"] + 1


def test_the_vector_may_lie_in_memory_as_it_likes(builder):
    wide = np.arange(8, dtype=np.float64)[::2]
    message = builder.embedding(replace(embedding(), vector=wide))
    assert message.payload == struct.pack("<4f", 0, 2, 4, 6)


def test_the_schema_is_plain_json():
    assert json.loads(json.dumps(as_dict())) == as_dict() | {
        "topics": [{**topic, "keys": list(topic["keys"])} for topic in as_dict()["topics"]]
    }
