"""Clips: frames of one or several stores."""

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import recorded

from psm_adapt.evaluate.clips import clips_of, people_in
from psm_stream.errors import AdaptationError


def test_recordings_of_several_stores(make_store):
    first = make_store(recorded("a", "p", 3), recorded("b", "q", 300), folder="first")
    second = make_store(recorded("c", "p", 2), folder="second")
    clips = clips_of([first, second])
    assert [(clip.name, clip.person, len(clip)) for clip in clips] == [("a", "p", 3), ("b", "q", 300), ("c", "p", 2)]
    assert people_in(clips) == ("p", "q")
    assert clips[1].t_s[[0, 1]].tolist() == [0.0, 0.04]
    np.testing.assert_array_equal(np.concatenate(list(clips[1].crops())), first.crops[3:])
    assert [len(crops) for crops in clips[1].crops()] == [256, 44]


def test_some_frames(make_store):
    clip = clips_of([make_store(recorded("a", "p", 6), recorded("b", "p", 6))])[1]
    assert clip.only(np.arange(6) % 2 == 1).rows.tolist() == [7, 9, 11]
    assert clip.only(np.array([0, 5])).frame_index.tolist() == [0, 5]


def test_a_recording_that_is_there_twice(make_store):
    store = make_store(recorded("a", "p", 3))
    with pytest.raises(AdaptationError, match="'a' is in more than one store"):
        clips_of([store, store])
