"""Pairs, against a slow reading of what was published, and for what must hold of all four approaches."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapt.data.conftest import some_crops

from psm_adapt.data.pairs import PAIRINGS, PairOptions, epoch_pairs, held_gap, published_gap, tracks
from psm_adapt.data.writer import write_store
from psm_stream.errors import ConfigError, TrainingError


def track(count, start=0):
    return np.arange(start, start + count)


def as_set(pairs):
    return Counter(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))


@pytest.mark.parametrize("count", [2, 485, 486])
def test_psm_pairs_are_the_published_ones(count):
    frames = list(range(count))
    random.seed(912)
    random.shuffle(frames)
    published = Counter((frames[2 * n], frames[2 * n + 1]) for n in range(count // 2))
    for epoch in (1, 7):
        pairs = epoch_pairs("psm", [track(count)], epoch)
        assert as_set(pairs) == published
        assert not pairs.is_flip.any()


def test_psm_changes_the_order_and_on_request_the_pairs():
    first, second = (epoch_pairs("psm", [track(100)], epoch) for epoch in (1, 2))
    assert first.a.tolist() != second.a.tolist()
    drawn = [epoch_pairs("psm", [track(100)], epoch, PairOptions(redraw=True)) for epoch in (1, 2)]
    assert as_set(drawn[0]) != as_set(drawn[1])
    for pairs in drawn:
        assert sorted([*pairs.a, *pairs.b]) == list(range(100))


@pytest.mark.parametrize(
    ("epoch", "gap"), [(1, 2), (10, 20), (49, 98), (50, 200), (99, 396), (100, 500), (200, 1000), (500, 2500)]
)
def test_the_gap_is_the_published_one(epoch, gap):
    assert published_gap(epoch) == gap
    assert held_gap(gap, 4845) == gap


@given(st.integers(1, 10_000), st.integers(2, 5000))
def test_the_held_gap_never_empties_a_track(gap, frames):
    held = held_gap(gap, frames)
    assert 1 <= held <= gap
    assert frames - held >= max(1, frames // 4)
    if gap <= frames // 2:
        assert held == gap


@pytest.mark.parametrize(("epoch", "gap"), [(1, 2), (49, 98), (60, 240), (100, 363), (500, 363)])
def test_psm_ctl_pairs_each_frame_with_the_one_a_gap_later(epoch, gap):
    pairs = epoch_pairs("psm_ctl", [track(485)], epoch)
    assert as_set(pairs) == Counter((i, i + gap) for i in range(485 - gap))
    assert not pairs.is_flip.any()


def test_gm_draws_from_all_frames_of_each_track_alike():
    of = [track(10), track(3, 10), track(5, 13)]
    pairs = epoch_pairs("gm", of, 1, PairOptions(per_track=20_000))
    assert len(pairs) == 40_000  # the track of three frames is dropped, as published
    drawn = ~pairs.is_flip
    assert abs(pairs.is_flip.mean() - 0.5) < 0.02
    assert (pairs.a[drawn] != pairs.b[drawn]).all()
    assert (pairs.a[~drawn] == pairs.b[~drawn]).all()
    assert ((pairs.a < 10) == (pairs.b < 10)).all()
    for side in (pairs.a[drawn], pairs.b[drawn]):
        counts = np.bincount(side, minlength=18)
        assert abs(counts[:10] / 1000 - 1).max() < 0.15
        assert (counts[10:13] == 0).all()
        assert abs(counts[13:] / 2000 - 1).max() < 0.15


def test_gm_ctl_partners_lie_a_gap_later_or_at_the_end():
    pairs = epoch_pairs("gm_ctl", [track(50)], 10, PairOptions(per_track=5000))
    drawn = ~pairs.is_flip
    assert abs(pairs.is_flip.mean() - 0.5) < 0.05
    a, b = pairs.a[drawn], pairs.b[drawn]
    np.testing.assert_array_equal(b, np.minimum(a + 20, 49))
    assert set(a) == set(range(49))


def test_gm_pairs_can_be_kept():
    kept = [epoch_pairs("gm", [track(30)], epoch, PairOptions(redraw=False)) for epoch in (1, 2)]
    assert as_set(kept[0]) == as_set(kept[1])
    assert kept[0].a.tolist() != kept[1].a.tolist()
    drawn = [epoch_pairs("gm", [track(30)], epoch) for epoch in (1, 2)]
    assert as_set(drawn[0]) != as_set(drawn[1])


@pytest.mark.parametrize("approach", PAIRINGS)
def test_every_approach_is_a_function_of_seed_and_epoch(approach):
    of = [track(40), track(20, 40)]
    np.random.seed(1)
    random.seed(1)
    one = epoch_pairs(approach, of, 3)
    np.random.seed(2)
    random.seed(2)
    again = epoch_pairs(approach, of, 3)
    for name in ("a", "b", "is_flip"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert one.a.tolist() != epoch_pairs(approach, of, 3, PairOptions(seed=1)).a.tolist()
    assert one.a.dtype == one.b.dtype == np.int64


@pytest.mark.parametrize("approach", PAIRINGS)
@pytest.mark.parametrize("flips", [0.0, 1.0])
def test_the_share_of_flips_can_be_set(approach, flips):
    pairs = epoch_pairs(approach, [track(40)], 1, PairOptions(flips=flips))
    assert pairs.is_flip.all() if flips else not pairs.is_flip.any()


@pytest.mark.parametrize("approach", PAIRINGS)
def test_too_short_tracks_are_a_clear_error(approach):
    with pytest.raises(TrainingError, match="the longest of 2 tracks has 1 frames"):
        epoch_pairs(approach, [track(1), track(1, 1)], 1)


def test_wrong_choices_are_errors():
    with pytest.raises(ConfigError, match="unknown approach 'PSM'; known: psm, psm_ctl, gm, gm_ctl"):
        epoch_pairs("PSM", [track(9)], 1)
    with pytest.raises(ConfigError, match="psm_ctl draws no pairs"):
        epoch_pairs("psm_ctl", [track(9)], 1, PairOptions(redraw=True))


@pytest.fixture
def store(tmp_path):
    cut = np.array([0, 0, 1, 1, 1])
    return write_store(
        tmp_path, [some_crops("a1", "ann", 5, segment=cut), some_crops("b1", "bob", 2), some_crops("a2", "ann", 2)]
    )


def test_tracks_by_person_recording_and_segment(store):
    def lists(**options):
        return [rows.tolist() for rows in tracks(store, **options)]

    assert lists() == [[0, 1, 2, 3, 4, 7, 8], [5, 6]]
    assert lists(within="recording") == [[0, 1, 2, 3, 4], [5, 6], [7, 8]]
    assert lists(within="segment") == [[0, 1], [2, 3, 4], [5, 6], [7, 8]]
    assert lists(rows=np.array([8, 3, 1]), within="segment") == [[1], [3], [8]]


@pytest.mark.parametrize("approach", PAIRINGS)
def test_no_pair_crosses_a_segment(tmp_path, approach):
    cut = np.repeat([0, 1], [5, 7])
    store = write_store(tmp_path, [some_crops("a1", "ann", 12, segment=cut), some_crops("a2", "ann", 6)])
    pairs = epoch_pairs(approach, tracks(store, within="segment"), 5)
    assert (store.recording[pairs.a] == store.recording[pairs.b]).all()
    assert (store.segment[pairs.a] == store.segment[pairs.b]).all()
