"""Order in time: a clock is perfect, a still is wrong, noise is at chance, and gaps are no neighbours."""

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import recorded

from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.ranking import ANCHORS, anchors_of, ranking_accuracy

REACH = 21


@pytest.fixture
def anchors() -> np.ndarray:
    return np.arange(0, 80, 3)


def test_a_clock_is_perfect_and_its_reverse_too(anchors):
    clock = np.arange(101.0)[:, None]
    assert ranking_accuracy(clock, anchors) == ranking_accuracy(-clock, anchors) == 1.0


def test_a_still_scores_nothing(anchors):
    assert ranking_accuracy(np.ones((101, 3)), anchors) == 0.0


def test_noise_is_at_chance(rng):
    assert ranking_accuracy(rng.normal(size=(2000, 8)), np.arange(1900)) == pytest.approx(0.5, abs=0.02)


def test_by_hand():
    values = np.zeros((22, 1))
    # samples 1, 3, ..., 21: 2 rises, then falls, then all equal
    values[[1, 3, 5, 7], 0] = 1, 2, 3, 1
    assert ranking_accuracy(values, np.array([0])) == pytest.approx(2 / 10)


def test_without_anchors_there_is_no_figure():
    assert np.isnan(ranking_accuracy(np.ones((5, 2)), np.array([], np.intp)))


def test_anchors_have_frames_in_a_row(make_store):
    frames = np.concatenate([np.arange(30), np.arange(40, 70)])
    segments = np.repeat([0, 1], [50, 10])
    clip = clips_of([make_store(recorded("a", "p", 60, frame_index=frames, segment=segments))])[0]
    # 0..8 reach 29 at most; 30 and on would reach the jump at 50
    assert anchors_of(clip).tolist() == list(range(9))
    assert anchors_of(clip.only(np.arange(21))).tolist() == []


def test_no_more_anchors_than_needed(make_store):
    clip = clips_of([make_store(recorded("a", "p", 2 * ANCHORS + REACH + 1))])[0]
    assert len(anchors_of(clip)) <= ANCHORS
    assert anchors_of(clip)[:2].tolist() == [0, 3]
