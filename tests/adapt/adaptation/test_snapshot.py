"""Snapshots: read as written, refused when they are not what they should be, and divided in time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from psm_adapt.adaptation.snapshot import Snapshot, SnapshotFaces, load_snapshot, save_snapshot, split
from psm_adapt.config import TrainSettings
from psm_adapt.data.augment import plain
from psm_stream.align.template import Template
from psm_stream.config import FacesSettings
from psm_stream.errors import AdaptationError
from psm_stream.faces import RecentFaces
from psm_stream.record.testing import a_face
from psm_stream.values import Stamp


def made(count: int, fps: float = 25.0) -> Snapshot:
    """Faces that are told apart by their first pixel."""
    crops = np.zeros((count, 64, 64, 3), np.uint8)
    crops[:, 0, 0, 0] = np.arange(count) % 256
    return Snapshot(
        crops=crops,
        landmarks=np.zeros((count, 478, 2), np.float32),
        frame_index=np.arange(count),
        face_id=np.zeros(count, np.int32),
        t_capture=np.arange(count) / fps,
        t_source=np.full(count, np.nan),
        confidence=np.ones(count, np.float32),
    )


def test_what_the_live_path_writes_is_read(demo_snapshot: Path) -> None:
    snapshot = load_snapshot(demo_snapshot)
    assert len(snapshot) == 48
    assert snapshot.crops.shape == (48, 128, 128, 3)
    assert (np.diff(snapshot.t_capture) > 0).all()
    assert torch.equal(snapshot.images()[40:], plain(torch.from_numpy(snapshot.crops[40:])))


def test_faces_come_in_order_of_time_and_their_digest_is_of_their_content(tmp_path: Path) -> None:
    snapshot = made(30)
    save_snapshot(tmp_path / "mixed.npz", snapshot.only(np.random.default_rng(0).permutation(30)))
    again = load_snapshot(tmp_path / "mixed.npz")
    assert np.array_equal(again.crops, snapshot.crops)
    assert again.sha256 == snapshot.sha256
    assert replace(snapshot, confidence=snapshot.confidence * 0.5).sha256 != snapshot.sha256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crops": np.zeros((30, 64, 32, 3), np.uint8)}, "expected uint8"),
        ({"crops": np.zeros((30, 64, 64, 3), np.float32)}, "float32"),
        ({"crops": np.zeros((30, 96, 96, 3), np.uint8)}, "aligner.size_px"),
        ({"confidence": np.ones(29, np.float32)}, "29 of confidence"),
        ({"landmarks": np.zeros((30, 5), np.float32)}, r"landmarks are \[30, 5\]"),
        ({"t_capture": np.zeros((30, 2))}, "t_capture"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, change: dict, words: str) -> None:
    save_snapshot(tmp_path / "wrong.npz", replace(made(30), **change))
    with pytest.raises(AdaptationError, match=words):
        load_snapshot(tmp_path / "wrong.npz")


def test_faces_by_another_template_are_not_learned_from(tmp_path: Path) -> None:
    recent = RecentFaces(FacesSettings(), 64, Template("wide", 0.25, 0.45))
    recent.offer(a_face(Stamp(0, 0.0), size_px=64))
    with pytest.raises(AdaptationError, match="its crops are not by our own template"):
        load_snapshot(recent.snapshot(tmp_path / "wide.npz").result(10))


def test_a_missing_or_cut_file_is_one_line(tmp_path: Path, demo_snapshot: Path) -> None:
    with pytest.raises(AdaptationError, match="not a readable snapshot"):
        load_snapshot(tmp_path / "none.npz")
    (tmp_path / "cut.npz").write_bytes(demo_snapshot.read_bytes()[:5000])
    with pytest.raises(AdaptationError, match="not a readable snapshot"):
        load_snapshot(tmp_path / "cut.npz")


@pytest.mark.parametrize("count", [20, 100, 486, 500])
def test_the_last_part_in_time_is_held_out_with_a_margin(count: int) -> None:
    snapshot = made(count)
    parts = split(snapshot)
    assert parts.train[0] == 0
    assert parts.judge[-1] == count - 1
    assert parts.train[-1] < parts.choose[0] <= parts.choose[-1] < parts.judge[0]
    assert len(parts.judge) == pytest.approx(count / 10, abs=1)
    assert len(parts.train) >= 0.7 * count
    if count >= 486:  # there is room for the whole second
        assert parts.choose[0] - parts.train[-1] in (25, 26)


def test_too_few_faces_to_hold_any_out_are_refused() -> None:
    with pytest.raises(AdaptationError, match="too few"):
        split(made(7))


def test_only_the_rows_to_learn_from_are_given_out() -> None:
    snapshot = made(40)
    faces = SnapshotFaces(snapshot, np.arange(30), "ann", torch.device("cpu"))
    assert [rows.tolist() for rows in faces.tracks(TrainSettings())] == [list(range(30))]
    assert faces.images(np.array([3, 1]), torch.device("cpu"))[:, 0, 0, 0].tolist() == [3, 1]
