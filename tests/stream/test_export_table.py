"""The tables hold what was recorded, value for value, under OpenFace's names where they mean the same."""

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import psm_stream
from psm_stream import export_table
from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.errors import SessionError
from psm_stream.export_columns import openface_pose
from psm_stream.export_table import export
from psm_stream.record.reader import Session
from psm_stream.record.testing import fake_encoder, record_run, rewrite, some_faces
from psm_stream.values import NAN, Faces, Marker, NoFace, Stamp, SwapEncoder

ONE, TWO = "111111111111", "222222222222"

# the order in which OpenFace 2.2's FeatureExtraction writes them (its wiki, "Output Format")
OPENFACE_FIRST = ["frame", "face_id", "timestamp", "confidence", "success"]


@pytest.fixture
def encoder(tmp_path):
    return fake_encoder(tmp_path / "bundles", ONE)


def read(path: Path) -> dict[str, list]:
    table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    return table.to_pydict()


def read_markers(folder: Path) -> list[dict[str, str]]:
    with (folder / "markers.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def block(columns, prefix, row):
    """The values of x_0, x_1, ... in one row, as float32."""
    count = sum(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in columns)
    return np.array([columns[f"{prefix}{n}"][row] for n in range(count)], np.float32)


@pytest.mark.parametrize("table", ["parquet", "csv"])
def test_every_value_comes_back(tmp_path, encoder, table):
    two = fake_encoder(tmp_path / "bundles", TWO)
    faces = [some_faces(index, (0, 2), rich=True) for index in range(4)]
    nothing = NoFace(some_faces(4).frame, 'no "face", found')
    folder = record_run(tmp_path, encoder, [*faces[:2], SwapEncoder(two, "adapt"), *faces[2:], nothing])
    exported = export(Session(folder), table)
    assert (exported.rows, exported.markers, exported.missing) == (9, 0, 0)
    assert exported.folder == folder / "exports" / "001"
    columns = read(exported.folder / f"faces.{table}")
    expected = [(sighting.frame, face) for sighting in faces for face in sighting.faces]
    for row, (frame, face) in enumerate(expected):
        used, epoch = (encoder, 0) if frame.index < 2 else (two, 1)
        assert columns["frame"][row] == frame.index
        assert columns["face_id"][row] == face.face_id
        assert columns["success"][row] == 1
        assert columns["confidence"][row] == face.confidence
        assert columns["timestamp"][row] == frame.t_source
        assert columns["t_capture"][row] == frame.t_capture
        assert columns["model_id"][row] in (used.model_id, int(used.model_id))  # pyarrow reads digits as a number
        assert columns["model_epoch"][row] == epoch
        assert np.array_equal(block(columns, "x_", row), face.landmarks[:, 0])
        assert np.array_equal(block(columns, "y_", row), face.landmarks[:, 1])
        assert np.array_equal(block(columns, "emb_", row), used.encode(face.crop))
        assert np.array_equal(np.array([columns[name][row] for name in BLENDSHAPES], np.float32), face.blendshapes)
        assert [columns[f"pose_{axis}"][row] for axis in ("Tx", "Ty", "Tz")] == pytest.approx(
            np.array([1, -1, -1]) * face.pose[:3, 3] * 10, rel=1e-6
        )
    last = {name: values[8] for name, values in columns.items()}
    given = {name: value for name, value in last.items() if value not in (None, "")}
    assert given.pop("reason") == 'no "face", found'
    assert given.pop("t_capture") == nothing.frame.t_capture
    assert given == {
        "frame": 4,
        "face_id": -1,
        "timestamp": nothing.frame.t_source,
        "t_source": nothing.frame.t_source,
        "confidence": 0,
        "success": 0,
    }


def test_columns_begin_as_openface_s_do(tmp_path, encoder):
    exported = export(Session(record_run(tmp_path, encoder, [some_faces(0, rich=True)])), "csv")
    with (exported.folder / "faces.csv").open(encoding="utf-8") as file:
        names = file.readline().rstrip("\n").split(",")
    pose = ["pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz"]
    landmarks = [f"{axis}_{number}" for axis in "xy" for number in range(478)]
    assert names[: 11 + 956] == [*OPENFACE_FIRST, *pose, *landmarks]
    assert [name for name in names if name.startswith("emb_")] == [f"emb_{number}" for number in range(8)]
    assert len(set(names)) == len(names)


def test_without_blendshapes_and_pose_there_are_no_columns_for_them(tmp_path, encoder):
    exported = export(Session(record_run(tmp_path, encoder, [some_faces(0)])), "parquet")
    names = read(exported.folder / "faces.parquet")
    assert not {*BLENDSHAPES, "pose_Tx"} & set(names)


def test_blendshapes_are_named_as_mediapipe_names_them():
    landmarker = pytest.importorskip("mediapipe.tasks.python.vision.face_landmarker")
    order = sorted(landmarker.Blendshapes, key=int)
    assert [_camel(shape.name) for shape in order] == list(BLENDSHAPES)


def _camel(name: str) -> str:
    first, *others = name.lower().split("_") if not name.startswith("_") and name != "NEUTRAL" else [name.lower()]
    return "_neutral" if first.strip("_") == "neutral" else first + "".join(word.capitalize() for word in others)


def test_a_live_source_counts_its_timestamp_from_the_first_frame(tmp_path, encoder):
    def at(index, t):
        faces = some_faces(index)
        stamp = Stamp(index, t)
        return Faces(stamp, (replace(faces.faces[0], frame=stamp),))

    exported = export(Session(record_run(tmp_path, encoder, [at(5, 700.25), at(9, 702.5)])), "parquet")
    columns = read(exported.folder / "faces.parquet")
    assert columns["timestamp"] == [0.0, 2.25]
    assert columns["frame"] == [5, 9]
    assert columns["t_source"] == [None, None]


def test_what_is_missing_is_null_not_nan(tmp_path, encoder):
    faces = some_faces(0)
    unsure = Faces(faces.frame, (replace(faces.faces[0], confidence=NAN),))
    folder = record_run(tmp_path, encoder, [unsure])
    parquet = read(export(Session(folder), "parquet").folder / "faces.parquet")
    assert parquet["confidence"] == [None]
    assert parquet["cluster_strength"] == [None]
    assert parquet["cluster"] == [-1]
    text = (export(Session(folder), "csv").folder / "faces.csv").read_text()
    assert "nan" not in text.lower()


def test_the_source_s_own_label_is_a_column(tmp_path, encoder):
    faces = some_faces(0)
    stamp = replace(faces.frame, label="smile 0.5")
    labelled = Faces(stamp, (replace(faces.faces[0], frame=stamp),))
    exported = export(Session(record_run(tmp_path, encoder, [labelled, some_faces(1)])), "parquet")
    assert read(exported.folder / "faces.parquet")["label"] == ["smile 0.5", None]


def test_markers_are_beside_it_on_the_frames_time_line(tmp_path, encoder):
    early = Marker("before", 99.75, "control")
    items = [
        early,
        some_faces(30),
        Marker('say "hi", ü\n', 101.015625, "remote", {"trial": 3, "list": [1]}),
        some_faces(31),
    ]
    exported = export(Session(record_run(tmp_path, encoder, items)), "parquet")
    before, during = read_markers(exported.folder)
    assert exported.markers == 2
    assert before == {
        "label": "before",
        "t": "99.75",
        "timestamp": "",
        "origin": "control",
        "frame": "",
        "fields": "{}",
    }
    assert (during["label"], during["origin"], during["frame"]) == ('say "hi", ü\n', "remote", "30")
    assert float(during["t"]) == 101.015625
    assert float(during["timestamp"]) == pytest.approx(1.015625)
    assert json.loads(during["fields"]) == {"trial": 3, "list": [1]}


def a_blink(index, t_capture, t_source=NAN):
    return NoFace(Stamp(index, t_capture, t_source), "no face found")


def test_a_marker_s_frame_is_the_last_one_captured_before_it_though_processed_after_it(tmp_path, encoder):
    items = [
        a_blink(4, 100.0),
        Marker("late frames", 100.125, "remote"),  # 5 and 6 were captured already, and wait to be processed
        a_blink(5, 100.0625),
        a_blink(6, 100.125),  # at the same moment
        a_blink(8, 100.25),
        Marker("early", 100.1, "control"),  # 8 came before it in the log, and after it in time
        Marker("after all", 101.0, "control"),
        Marker("before all", 99.0, "control"),
    ]
    exported = export(Session(record_run(tmp_path, encoder, items)), "csv")
    read = [(marker["label"], marker["frame"], marker["timestamp"]) for marker in read_markers(exported.folder)]
    assert [(label, frame) for label, frame, _ in read] == [
        ("late frames", "6"),
        ("early", "5"),
        ("after all", "8"),
        ("before all", ""),
    ]
    assert [float(timestamp) for *_, timestamp in read[:3]] == pytest.approx([0.125, 0.1, 1.0])


def test_a_marker_s_timestamp_starts_at_its_frame_s_own_time(tmp_path, encoder):
    """A file at pace `fast` runs through its own time faster than the clock does."""
    items = [a_blink(0, 100.0, 0.0), Marker("m", 100.25, "remote"), a_blink(1, 100.125, 40.0), a_blink(2, 100.5, 80.0)]
    (marker,) = read_markers(export(Session(record_run(tmp_path, encoder, items)), "csv").folder)
    assert (marker["frame"], float(marker["timestamp"])) == ("1", 40.125)


def test_a_parquet_file_says_which_session_it_is_of(tmp_path, encoder):
    two = fake_encoder(tmp_path / "bundles", TWO)
    items = [some_faces(0), SwapEncoder(two, "adapt"), some_faces(1)]
    session = Session(record_run(tmp_path, encoder, items))
    exported = export(session, "parquet")
    metadata = pyarrow.parquet.read_schema(exported.folder / "faces.parquet").metadata
    info = json.loads((session.folder / "info.json").read_text())
    assert json.loads(metadata[b"psm-stream"]) == {
        "session": info["uuid"],
        "models": [ONE, TWO],
        "version": psm_stream.__version__,
        "started": info["started"],
    }


def test_more_rows_than_a_row_group_keep_their_order(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(export_table, "ROWS_AT_ONCE", 4)
    folder = record_run(tmp_path, encoder, [some_faces(index, (0, 1)) for index in range(11)])
    exported = export(Session(folder), "parquet")
    columns = read(exported.folder / "faces.parquet")
    assert columns["frame"] == [index for index in range(11) for _ in range(2)]
    assert None not in columns["emb_0"]


def test_a_session_without_any_face_gives_a_table_without_landmarks(tmp_path, encoder):
    exported = export(Session(record_run(tmp_path, encoder, [NoFace(some_faces(0).frame, "none")])), "csv")
    columns = read(exported.folder / "faces.csv")
    assert columns["success"] == [0]
    assert not [name for name in columns if name.startswith(("x_", "emb_"))]


def test_an_empty_session_gives_empty_tables(tmp_path, encoder):
    for table in ("csv", "parquet"):
        exported = export(Session(record_run(tmp_path, encoder, [])), table)
        assert (exported.rows, exported.markers) == (0, 0)
        assert read(exported.folder / f"faces.{table}")["frame"] == []


def test_a_face_whose_embedding_was_cut_off_is_counted(tmp_path, encoder):
    folder = record_run(tmp_path, encoder, [some_faces(0), some_faces(1)])
    rewrite(folder, lambda entries: entries[:-2])
    exported = export(Session(folder), "parquet")
    assert exported.missing == 1
    columns = read(exported.folder / "faces.parquet")
    assert columns["success"] == [1, 1]
    assert columns["emb_0"][1] is None


def test_exports_never_overwrite_one_another(tmp_path, encoder):
    session = Session(record_run(tmp_path, encoder, [some_faces(0)]))
    folders = [export(session, "csv").folder.name for _ in range(3)]
    assert folders == ["001", "002", "003"]


def test_a_folder_of_one_s_own_is_made_and_never_overwritten(tmp_path, encoder):
    session = Session(record_run(tmp_path, encoder, [some_faces(0)]))
    out = tmp_path / "new" / "tables"
    assert export(session, "csv", out).folder == out
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(SessionError, match=r"faces\.csv is there already; name another folder"):
        export(session, "csv", out)
    with pytest.raises(SessionError, match=r"markers\.csv is there already"):
        export(session, "parquet", out)
    assert before == {path: path.read_bytes() for path in out.iterdir()}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, encoder):
    session = Session(record_run(tmp_path, encoder, [some_faces(0)]))
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="cannot export: "):
        export(session, "csv", tmp_path / "file" / "below")
    os.rename(session.folder / "models", session.folder / "exports")
    (session.folder / "exports" / "001").write_text("mine")
    assert export(session, "csv").folder.name == "002"


def test_an_interrupt_leaves_no_half_table(tmp_path, encoder):
    session = Session(record_run(tmp_path, encoder, [some_faces(index) for index in range(5)]))

    def interrupt(done):
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(session, "csv", tmp_path / "out", interrupt)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_session_makes_no_folder(tmp_path, encoder):
    folder = record_run(tmp_path, encoder, [some_faces(0)])
    log = bytearray((folder / "session.mcap").read_bytes())
    log[300] ^= 1
    (folder / "session.mcap").write_bytes(log)
    with pytest.raises(SessionError, match="damaged at byte"):
        export(Session(folder), "csv")
    assert not (folder / "exports").exists()


def test_an_embedding_of_no_recorded_face_is_one_line(tmp_path, encoder):
    folder = record_run(tmp_path, encoder, [some_faces(0), some_faces(1)])

    def without_first_face(entries):
        place = next(place for place, entry in enumerate(entries) if entry.channel == "input.faces")
        return [*entries[:place], *entries[place + 1 :]]

    rewrite(folder, without_first_face)
    with pytest.raises(SessionError, match=r"embedding\.00 of frame 0 belongs to no recorded face"):
        export(Session(folder), "csv")
    assert not list(folder.glob("exports/*/*"))


def rotation(axis, angle):
    """Rotate by angle [rad] about x, y or z, right-handed."""
    matrix = np.eye(3)
    one, other = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix[one, one] = matrix[other, other] = math.cos(angle)
    matrix[other, one] = math.sin(angle)
    matrix[one, other] = -math.sin(angle)
    return matrix


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (0.3, 0, 0), (0, -0.4, 0), (0, 0, 0.5), (0.2, 0.6, -0.3), (-1.0, 1.2, 2.0)]
)
def test_pose_angles_are_those_of_openface_s_convention(angles):
    """R = Rx Ry Rz in OpenFace's camera; MediaPipe's matrix is the same rotation with y and z turned round."""
    theirs = rotation("x", angles[0]) @ rotation("y", angles[1]) @ rotation("z", angles[2])
    flip = np.diag([1, -1, -1])
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = 1.7 * flip @ theirs @ flip
    pose[:3, 3] = (1, 2, -40)
    assert openface_pose(pose) == pytest.approx([10, -20, 400, *angles], abs=1e-5)


def test_a_pose_that_is_no_rotation_is_missing():
    assert np.isnan(openface_pose(np.zeros((4, 4), np.float32))).all()
