"""Every input comes back from its bytes as it was, to the bit; other bytes are refused in one line."""

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.clusters.clustering import Change, Clustering
from psm_stream.errors import SessionError
from psm_stream.record.codec import Start, Swap, VideoFrame, decode, encode, plain
from psm_stream.record.testing import a_stamp, same_face, same_stamp_bits, some_faces
from psm_stream.values import AlignedFace, Faces, Marker, NameCluster, NoFace, Present, Recluster, Stamp

times = st.floats(allow_nan=True, allow_infinity=True)


def round_trip(record):
    return decode(*encode(record))


@pytest.mark.parametrize("rich", [False, True])
def test_faces_come_back_to_the_bit(rich):
    faces = some_faces(3, face_ids=(0, 4), rich=rich)
    again = round_trip(faces)
    assert isinstance(again, Faces)
    assert same_stamp_bits(again.frame) == same_stamp_bits(faces.frame)
    assert [same_face(one, other) for one, other in zip(faces.faces, again.faces, strict=True)] == [True, True]


def test_another_template_s_eye_distance_comes_back_and_ours_is_not_written():
    faces = some_faces(3)
    wide = replace(faces, faces=tuple(replace(face, eye_distance=0.25) for face in faces.faces))
    assert [face.eye_distance for face in round_trip(wide).faces] == [0.25]
    assert [face.eye_distance for face in round_trip(faces).faces] == [0.38]
    assert "eye_distance" not in msgpack.unpackb(encode(faces)[1])["faces"][0]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.0, float("nan"), float("inf"), 1, "far", None])
def test_eyes_that_are_nowhere_are_refused(share):
    channel, body = encode(some_faces(3))
    tree = msgpack.unpackb(body)
    tree["faces"][0]["eye_distance"] = share
    with pytest.raises(SessionError):
        decode(channel, msgpack.packb(tree))


@given(
    index=st.integers(0, 2**40),
    t_capture=times,
    t_source=times,
    confidence=times,
    landmark=st.floats(width=32),
    label=st.text(),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_any_face_comes_back_to_the_bit(*, index, t_capture, t_source, confidence, landmark, label, shape, seed):
    stamp = Stamp(index, t_capture, t_source, label, {"slot": index})
    crop = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    landmarks = np.full((5, 2), landmark, np.float32)
    face = AlignedFace(stamp, 7, crop, landmarks, np.zeros((2, 3), np.float32), confidence)
    again = round_trip(Faces(stamp, (face,)))
    assert isinstance(again, Faces)
    assert same_face(again.faces[0], face)
    assert again.frame.label == label


def test_a_crop_that_is_a_view_of_a_larger_picture_comes_back_to_the_bit():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    stamp = a_stamp(0)
    face = AlignedFace(
        stamp, 0, picture[8:40:2, 40:8:-1], np.ones((478, 2), np.float32).T.copy().T, np.eye(2, 3, dtype=np.float32), 1
    )
    again = round_trip(Faces(stamp, (face,)))
    assert isinstance(again, Faces)
    assert np.array_equal(again.faces[0].crop, face.crop)


def test_a_crop_that_was_read_cannot_be_written_to():
    again = round_trip(some_faces(0))
    assert isinstance(again, Faces)
    with pytest.raises(ValueError, match="read-only"):
        again.faces[0].crop[0] = 0


@pytest.mark.parametrize(
    "record",
    [
        NoFace(Stamp(9, 1.5, 2.5, "", {"decode": 2}), "no face found"),
        Marker("trial 3", 12.25, "remote", {"n": 1, "deep": {"list": [1, 2.5, None, True, "ü", b"raw"]}}),
        Swap("0123456789ab", "revert"),
        Start("0123456789ab", 4),
        VideoFrame(17, 566),
        NameCluster(3, "lächeln"),
        NameCluster(0, ""),
        Present((0, 7)),
    ],
)
def test_everything_else_comes_back_equal(record):
    assert round_trip(record) == record


def test_a_clustering_comes_back_to_the_bit():
    fitted = {
        "points": np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32),
        "limit": np.array(0.25),
        "is_word": np.array([True, False]),
        "names": np.array(["ä", "b" * 9]),
        "nothing": np.zeros((0, 4), np.int64),
        "turned": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "foreign": np.array([1, 2], ">i4"),
    }
    changes = (Change("born", 5, (), 12), Change("merged", 1, (2, 3), 40))
    clustering = Clustering("hdbscan", "0123456789ab", 4, np.array([5, 1], np.int32), changes, fitted, 52)
    again = round_trip(Recluster(clustering, "rule"))
    assert isinstance(again, Recluster)
    assert again.reason == "rule"
    read = again.clustering
    assert (read.method, read.model_id, read.version, read.points) == ("hdbscan", "0123456789ab", 4, 52)
    assert read.changes == changes
    assert read.ids.dtype == np.int32
    assert read.ids.tolist() == [5, 1]
    assert read.fitted.keys() == fitted.keys()
    for name, array in fitted.items():
        assert read.fitted[name].shape == array.shape
        assert np.array_equal(read.fitted[name], array, equal_nan=array.dtype.kind == "f")


def test_objects_are_neither_written_nor_read():
    clustering = Clustering("hdbscan", "m", 1, np.zeros(0, np.int32), (), {"bad": np.array([print])}, 0)
    with pytest.raises(ValueError, match="cannot be recorded"):
        encode(Recluster(clustering, "rule"))
    topic, body = encode(Recluster(replace(clustering, fitted={"fine": np.zeros(1)}), "rule"))
    tree = msgpack.unpackb(body)
    tree["fitted"]["fine"]["dtype"] = "|O"
    with pytest.raises(SessionError, match="malformed"):
        decode(topic, msgpack.packb(tree))


@given(st.text(alphabet=st.characters(), max_size=20))
def test_labels_with_any_character_come_back(label):
    assert round_trip(Marker(label, 0.0, "control")).label == label


def test_a_lone_surrogate_in_a_marker_is_kept():
    assert round_trip(Marker("\ud800", 0.0, "remote", {"x": "\udfff"})) == Marker(
        "\ud800", 0.0, "remote", {"x": "\udfff"}
    )


def test_fields_without_a_plain_form_become_text_instead_of_ending_the_recording():
    deep: list = []
    for _ in range(500):
        deep = [deep]
    fields = {"huge": 10**30, "array": np.arange(2), "number": np.float32(0.5), 3: "three", "deep": deep, "set": {1}}
    kept = round_trip(Marker("m", 0.0, "remote", fields)).fields
    assert kept["huge"] == str(10**30)
    assert kept["array"] == "[0 1]"
    assert kept["number"] == 0.5
    assert kept["3"] == "three"
    assert kept["set"] == "{1}"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_plain_values_can_always_be_packed(value):
    msgpack.packb(plain({"value": value}), unicode_errors="surrogatepass")


@given(
    topic=st.sampled_from(["input.faces", "input.noface", "input.marker", "input.swap", "input.start"]),
    body=st.binary(),
)
def test_foreign_bytes_are_refused_in_one_line(topic, body):
    with pytest.raises(SessionError) as refusal:
        decode(topic, body)
    assert "\n" not in str(refusal.value)


def _faces_tree():
    return msgpack.unpackb(encode(some_faces(1))[1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_shape", [10**6, 10**6, 3]),
        ("crop_shape", [32, 32, 4]),
        ("crop_shape", [32, 32]),
        ("crop_shape", ["32", 32, 3]),
        ("crop_shape", [-1, -3072, 1]),
        ("crop_rows", b"short"),
        ("landmarks", b"123"),
        ("landmarks", "text"),
        ("to_crop", b"\0" * 20),
        ("pose", b"\0" * 12),
        ("confidence", 1),
        ("face_id", "0"),
    ],
)
def test_faces_whose_parts_do_not_fit_are_refused(key, value):
    tree = _faces_tree()
    tree["faces"][0][key] = value
    with pytest.raises(SessionError, match="malformed"):
        decode("input.faces", msgpack.packb(tree))


@pytest.mark.parametrize(
    "change", [{"faces": []}, {"faces": None}, {"index": "1"}, {"dropped": 3}, {"t_capture": None}]
)
def test_frames_whose_parts_do_not_fit_are_refused(change):
    with pytest.raises(SessionError, match="malformed"):
        decode("input.faces", msgpack.packb(_faces_tree() | change))


def test_an_unknown_channel_is_named():
    with pytest.raises(SessionError, match=r"input\.other"):
        decode("input.other", b"\x80")
