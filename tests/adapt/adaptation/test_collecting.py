"""Faces out of files: what is taken of each, and how several are joined."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.adapt.data.conftest import some_crops

from psm_adapt.adaptation.collecting import Taken, collect
from psm_adapt.adaptation.snapshot import Snapshot, load_snapshot, save_snapshot
from psm_adapt.data.writer import write_store
from psm_stream.errors import AdaptationError

COUNT = 12


def snapshot_of(count: int, size_px: int = 128, seed: int = 0) -> Snapshot:
    """Return faces that are noise, three frames apart."""
    draw = np.random.default_rng(seed)
    return Snapshot(
        crops=draw.integers(0, 256, (count, size_px, size_px, 3), np.uint8),
        landmarks=draw.random((count, 478, 2), np.float32),
        frame_index=np.arange(100, 100 + 3 * count, 3),
        face_id=np.full(count, 4, np.int32),
        t_capture=np.arange(count) / 10 + 1000.0,
        t_source=np.arange(count) / 10,
        confidence=np.ones(count, np.float32),
        to_crop=draw.random((count, 2, 3), np.float32),
    )


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two snapshots."""
    for n in range(2):
        save_snapshot(tmp_path / f"{n}.npz", snapshot_of(COUNT, seed=n))
    return [tmp_path / "0.npz", tmp_path / "1.npz"]


def test_one_snapshot_is_what_the_worker_would_read(two: list[Path], tmp_path: Path) -> None:
    collected = collect(two[:1], "ann", COUNT, tmp_path)
    assert collected.snapshot.sha256 == load_snapshot(two[0]).sha256
    assert collected.taken == (Taken("0.npz", COUNT, COUNT),)
    assert collected.blendshapes is None


def test_inputs_follow_each_other_in_frames_and_in_time(two: list[Path], tmp_path: Path) -> None:
    joined = collect(two[::-1], "ann", 100, tmp_path).snapshot
    first, second = load_snapshot(two[1]), load_snapshot(two[0])
    assert np.array_equal(joined.crops, np.concatenate([first.crops, second.crops]))
    assert (np.diff(joined.frame_index) > 0).all()
    assert np.diff(joined.t_capture) == pytest.approx([0.1] * (COUNT - 1) + [10.0] + [0.1] * (COUNT - 1))
    assert set(joined.face_id) == {0}


def test_of_more_faces_than_wanted_evenly_spread_ones_are_taken(two: list[Path], tmp_path: Path) -> None:
    collected = collect(two, "ann", 5, tmp_path)
    everything = np.concatenate([load_snapshot(path).crops for path in two])
    assert np.array_equal(collected.snapshot.crops, everything[[0, 6, 12, 17, 23]])
    assert [one.taken for one in collected.taken] == [2, 3]


def test_of_a_snapshot_the_most_frequent_face_is_taken(tmp_path: Path) -> None:
    faces = snapshot_of(COUNT)
    ids = np.where(np.arange(COUNT) % 3 == 0, 1, 4).astype(np.int32)
    save_snapshot(tmp_path / "two.npz", replace(faces, face_id=ids))
    collected = collect([tmp_path / "two.npz"], "ann", 100, tmp_path)
    assert np.array_equal(collected.snapshot.crops, faces.crops[ids == 4])


def test_of_a_store_the_person_is_taken_with_their_blendshapes(tmp_path: Path, two: list[Path]) -> None:
    draw = np.random.default_rng(0)
    shapes = draw.random((6, 52), np.float32)
    landmarks = draw.random((6, 478, 2), np.float32)
    recordings = [some_crops(f"{who}1", who, 6, landmarks=landmarks, blendshapes=shapes) for who in ("ann", "bob")]
    store = write_store(tmp_path / "store", recordings)
    collected = collect([store.folder, two[0]], "bob", 100, tmp_path)
    assert np.array_equal(collected.snapshot.crops[:6], store.crops[6:])
    assert collected.blendshapes is not None
    assert np.array_equal(collected.blendshapes[:6], shapes)
    assert np.isnan(collected.blendshapes[6:]).all()
    with pytest.raises(AdaptationError, match="none of them called 'bop'; did you mean bob"):
        collect([store.folder], "bop", 100, tmp_path)


def test_what_cannot_be_used_is_refused_in_one_line(two: list[Path], tmp_path: Path) -> None:
    save_snapshot(tmp_path / "small.npz", snapshot_of(COUNT, size_px=64))
    with pytest.raises(AdaptationError, match="64 px and of 128 px"):
        collect([*two, tmp_path / "small.npz"], "ann", 100, tmp_path)
    with pytest.raises(AdaptationError, match=r"there is no .*smal\.npz; did you mean small\.npz"):
        collect([tmp_path / "smal.npz"], "ann", 100, tmp_path)
    as_is = write_store(tmp_path / "as-is", [some_crops("ann1", "ann", 3)])
    with pytest.raises(AdaptationError, match="no landmarks"):
        collect([as_is.folder], "ann", 100, tmp_path)
