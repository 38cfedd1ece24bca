"""The ring of recent faces, against a plain list."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.align.template import EYES_LEVEL, Template
from psm_stream.config import FacesSettings
from psm_stream.errors import SessionError
from psm_stream.faces import RecentFaces, read_snapshot
from psm_stream.values import NAN, AlignedFace, Stamp

SIZE = 32
LANDMARKS = np.zeros((478, 2), np.float32)
TO_CROP = np.arange(6, dtype=np.float32).reshape(2, 3)


def face(index: int, grey: int, confidence: float = 1.0, face_id: int = 0) -> AlignedFace:
    crop = np.full((SIZE, SIZE, 3), grey, np.uint8)
    return AlignedFace(Stamp(index, float(index), index / 30), face_id, crop, LANDMARKS, TO_CROP + index, confidence)


@given(st.integers(1, 40), st.integers(0, 300))
def test_holds_the_newest_in_order(capacity: int, count: int) -> None:
    faces = RecentFaces(FacesSettings(capacity=capacity), SIZE)
    kept: list[int] = []
    for index in range(count):
        assert faces.offer(face(index, (index * 7) % 256))
        kept.append(index)
    held = faces.copy()
    assert held["frame_index"].tolist() == kept[-capacity:]
    assert [int(crop[0, 0, 0]) for crop in held["crops"]] == [(index * 7) % 256 for index in kept[-capacity:]]
    assert (held["to_crop"] == TO_CROP + np.array(kept[-capacity:], np.float32).reshape(-1, 1, 1)).all()
    assert len(faces) == min(capacity, count)


def test_crops_by_another_template_are_said_to_be(tmp_path: Path) -> None:
    for template, told in ((EYES_LEVEL, None), (Template("arc", 0.3, 0.45), [0.3, 0.45])):
        faces = RecentFaces(FacesSettings(capacity=2), SIZE, template)
        faces.offer(face(0, 100))
        stored = read_snapshot(faces.snapshot(tmp_path / f"{template.name}.npz").result(10))
        assert ("template" in stored) == (told is not None)
        assert told is None or stored["template"].tolist() == told


def test_gate_refuses_repeats_and_doubt() -> None:
    faces = RecentFaces(FacesSettings(capacity=10, min_confidence=0.8, min_change=0.5), SIZE)
    assert faces.offer(face(0, 100))
    assert not faces.offer(face(1, 100))  # a frozen camera
    assert not faces.offer(face(2, 120, confidence=0.5))
    assert faces.offer(face(3, 120))
    assert faces.offer(face(4, 100, confidence=NAN))  # the landmarker gives no score
    assert faces.refused == {"confidence": 1, "repeat": 1}
    assert faces.copy()["frame_index"].tolist() == [0, 3, 4]


def test_a_frozen_camera_on_two_faces_is_a_repeat_of_both() -> None:
    faces = RecentFaces(FacesSettings(capacity=10), SIZE)
    for index in range(4):
        faces.offer(face(index, 100, face_id=0))
        faces.offer(face(index, 160, face_id=1))
    held = faces.copy()
    assert (held["frame_index"].tolist(), held["face_id"].tolist()) == ([0, 0], [0, 1])
    assert faces.refused["repeat"] == 6


def test_snapshot_comes_back_and_is_whole_while_faces_come_in(tmp_path: Path) -> None:
    faces = RecentFaces(FacesSettings(capacity=50), SIZE)
    stop = threading.Event()

    def offer() -> None:
        index = 0
        while not stop.is_set():
            faces.offer(face(index, index % 256))
            index += 1

    writer = threading.Thread(target=offer)
    writer.start()
    try:
        snapshots = [read_snapshot(faces.snapshot(tmp_path / f"{n}.npz").result(10)) for n in range(20)]
    finally:
        stop.set()
        writer.join()
    for snapshot in snapshots:
        index = snapshot["frame_index"]
        assert (np.diff(index) == 1).all()
        assert (snapshot["crops"][:, 3, 3, 1] == index % 256).all()  # no face of another moment slipped in


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_folder_made_for_snapshots_is_its_owners(tmp_path: Path) -> None:
    faces = RecentFaces(FacesSettings(), 8)
    assert faces.snapshot(tmp_path / "home" / "snapshots" / "1.npz").result(10).is_file()
    assert (tmp_path / "home" / "snapshots").stat().st_mode & 0o077 == 0


def test_a_snapshot_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SessionError, match="cannot write the snapshot"):
        RecentFaces(FacesSettings(capacity=2), SIZE).snapshot(blocked / "inside.npz").result(10)


def test_a_snapshot_of_an_older_version_lacks_the_map_to_the_crop(tmp_path: Path) -> None:
    faces = RecentFaces(FacesSettings(capacity=2), SIZE)
    faces.offer(face(0, 100))
    held = faces.copy()
    assert set(held) == set(read_snapshot(faces.snapshot(tmp_path / "new.npz").result(10)))
    del held["to_crop"]
    np.savez(tmp_path / "old.npz", **held)
    assert set(read_snapshot(tmp_path / "old.npz")) == set(held)


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_reading_rubbish_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SessionError, match=r"x\.npz is not a readable snapshot"):
        read_snapshot(path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, crops=np.array([{"code": 1}], dtype=object))
    with pytest.raises(SessionError, match="not a readable snapshot"):
        read_snapshot(path)
