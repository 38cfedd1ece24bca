"""Matching labels with frames by number."""

from dataclasses import replace

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import recorded

from psm_adapt.data.store import Making
from psm_adapt.data.writer import write_store
from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.frame_table import FrameTable, matched
from psm_stream.errors import AdaptationError


def table(count: int, first: int = 1, unsure: tuple[int, ...] = ()) -> FrameTable:
    """Labels of so many frames: on where the number is a multiple of 3."""
    numbers = np.arange(first, first + count)
    return FrameTable("labels.csv", numbers, (numbers % 3 == 0)[:, None], ~np.isin(numbers, unsure))


def clip_of(store):
    return clips_of([store])[0]


def test_a_video_counts_from_1(make_store):
    frames = np.array([0, 1, 2, 5, 6])  # no face in 3 and 4
    video = replace(recorded("a", "p", 5, frame_index=frames), looked_at=7)
    clip, labels, is_frequent, unlabelled = matched(table(7), clip_of(make_store(video)))
    assert labels[:, 0].tolist() == [False, False, True, True, False]  # numbers 1 2 3 6 7
    assert clip.frame_index.tolist() == frames.tolist()
    assert is_frequent.tolist() == [True]
    assert unlabelled == 0


@pytest.mark.parametrize(("first", "expected"), [(1, [False, False, True]), (0, [False, False, True])])
def test_numbered_images_keep_their_numbers(tmp_path, first, expected):
    images = recorded("a", "p", 3, frame_index=np.arange(first, first + 3))
    store = write_store(tmp_path / "s", [replace(images, kind="images")])
    assert matched(table(4), clip_of(store))[1][:, 0].tolist() == expected


def test_unsure_labels_are_left_out_and_counted(make_store):
    clip, labels, _, unlabelled = matched(table(5, unsure=(2, 3)), clip_of(make_store(recorded("a", "p", 5))))
    assert clip.frame_index.tolist() == [0, 3, 4]
    assert labels[:, 0].tolist() == [False, False, False]
    assert unlabelled == 2


def test_the_2_percent_rule_is_over_all_labels(make_store):
    # one crop, and a third of all its labels are on
    _, labels, is_frequent, _ = matched(table(90), clip_of(limited(make_store)))
    assert labels.tolist() == [[False]]
    assert is_frequent.tolist() == [True]


def limited(make_store):
    store = make_store(recorded("a", "p", 1))
    return write_store(store.folder.with_name("limited"), [recorded("a", "p", 1)], Making(frames=1))


def test_one_percent_may_lack_a_label(make_store):
    clip, _, _, unlabelled = matched(table(198), clip_of(make_store(recorded("a", "p", 200), folder="one")))
    assert (len(clip), unlabelled) == (198, 2)
    with pytest.raises(
        AdaptationError,
        match=r"no label for 3 of 200 frames of recording 'a', the first is frame 198; it labels 1 to 197",
    ):
        matched(table(197), clip_of(make_store(recorded("a", "p", 200), folder="two")))


def test_labels_of_a_longer_video_are_refused(make_store):
    clip = clip_of(make_store(recorded("a", "p", 100)))
    with pytest.raises(AdaptationError, match="labels 4845 frames, recording 'a' has 100"):
        matched(table(4845), clip)


def test_labels_of_a_longer_video_are_fine_where_the_store_was_limited(make_store):
    clip = clip_of(limited(make_store))
    assert len(matched(table(4845), clip)[0]) == 1


def test_nothing_sure(make_store):
    clip = clip_of(make_store(recorded("a", "p", 2)))
    with pytest.raises(AdaptationError, match="no frame of recording 'a' has a sure label"):
        matched(table(2, unsure=(1, 2)), clip)
