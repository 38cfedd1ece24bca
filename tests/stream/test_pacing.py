"""Pacing: a file's own timing, skipping when late, giving up when slow."""

import pytest

from psm_stream.pacing import Pacer

NAN = float("nan")


def test_pictures_are_due_with_their_own_timing():
    pacer = Pacer(fps=25)
    times = [0.0, 0.04, 0.05, 0.2]  # a variable rate
    due = [pacer.schedule(t, now=100.0 + 0.5 * t) for t in times]
    assert due == pytest.approx([100.0 + t for t in times])


@pytest.mark.parametrize("t_source", [NAN, 0.0])
def test_without_a_later_time_a_picture_follows_at_the_nominal_rate(t_source):
    pacer = Pacer(fps=10)
    assert pacer.schedule(0.0, now=5.0) == 5.0
    assert pacer.schedule(t_source, now=5.0) == pytest.approx(5.1)
    assert pacer.schedule(t_source, now=5.0) == pytest.approx(5.2)


def test_a_file_that_starts_again_goes_on():
    pacer = Pacer(fps=10)
    times = [0.0, 0.1, 0.2, 0.0, 0.1]
    assert [pacer.schedule(t, now=0.0) for t in times] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_picture_is_skipped_when_its_successor_is_due():
    pacer = Pacer(fps=10)
    pacer.schedule(0.0, now=0.0)
    assert pacer.schedule(0.1, now=0.19) == pytest.approx(0.1)
    assert pacer.schedule(0.2, now=0.35) is None
    assert pacer.schedule(0.3, now=0.36) == pytest.approx(0.3)
    assert not pacer.is_slow


def test_a_decoder_that_never_keeps_up_is_no_longer_skipped_and_does_not_lag():
    pacer = Pacer(fps=10)
    now, due = 0.0, []
    for index in range(100):  # takes 0.15 s for a picture of 0.1 s
        due.append(pacer.schedule(index * 0.1, now))
        now += 0.15
    assert pacer.is_slow
    assert None not in due[30:]
    lag = [index * 0.15 - t for index, t in enumerate(due) if index >= 30]
    assert max(lag) <= 0.1 + 1e-9


def test_two_hitches_do_not_make_a_file_slow():
    pacer = Pacer(fps=10)
    for index in range(30):
        hitch = 0.15 if index in (5, 25) else 0.0
        due = pacer.schedule(index * 0.1, now=index * 0.1 + hitch)
        assert (due is None) == (hitch > 0)
    assert not pacer.is_slow
