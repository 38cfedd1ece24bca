"""Synthetic clips drawn into a store by the real aligner and teacher."""

from pathlib import Path

import numpy as np
import pytest

from psm_adapt.data.ingest import IngestOptions, ingest
from psm_adapt.data.layouts import RecordingSource
from psm_adapt.data.store import CropStore, open_store
from psm_adapt.general import make
from psm_adapt.general.make import Order, make_clips
from psm_adapt.general.synthesis import FRAMES
from psm_stream.errors import StoreError


@pytest.fixture(scope="module")
def landmarker(shared_data: Path) -> Path:
    model = shared_data.parent / "models" / "face_landmarker.task"
    if not model.is_file():
        pytest.skip(f"no Face Landmarker model at {model}")
    return model


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory, shared_data: Path, landmarker: Path) -> CropStore:
    """A store of one man's first 260 frames."""
    video = shared_data / "people" / "audun_ht_capture4_320x240.mp4"
    source = RecordingSource(name="a/1", person="a", kind="video", path=video)
    options = IngestOptions(frames=260, landmarker=landmarker, workers=1)
    return ingest([source], tmp_path_factory.mktemp("real") / "store", options).store


def test_a_clip_is_labelled_by_what_is_seen_in_it(tmp_path: Path, filmed: CropStore, landmarker: Path) -> None:
    told: list[int] = []
    store = make_clips(filmed.folder, tmp_path / "made", Order(2, 0, landmarker), told.append)
    assert told == [2]
    assert [recording.kind for recording in store.recordings] == ["made", "made"]
    assert len(store.people) == 2
    for recording in store.recordings:
        assert recording.count > FRAMES / 2
        assert store.frame_index[recording.start] == 0  # the resting face
    shapes = np.asarray(store.blendshapes)
    assert np.isfinite(shapes).all()


def test_the_same_order_gives_the_same_store_whatever_the_number_of_workers(
    tmp_path: Path, filmed: CropStore, landmarker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make_clips(filmed.folder, tmp_path / "alone", Order(2, 3, landmarker))
    monkeypatch.setattr(make, "AT_ONCE", 1)
    together = make_clips(filmed.folder, tmp_path / "together", Order(2, 3, landmarker, workers=2))
    assert together.store_id == alone.store_id
    assert make_clips(filmed.folder, tmp_path / "other", Order(1, 4, landmarker)).store_id != alone.store_id


def test_a_store_that_is_there_is_never_written_over(filmed: CropStore, landmarker: Path) -> None:
    with pytest.raises(StoreError, match="is a crop store already; name another folder"):
        make_clips(filmed.folder, filmed.folder, Order(1, 0, landmarker))
    assert len(open_store(filmed.folder)) == len(filmed)
