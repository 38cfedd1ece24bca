"""The capture thread: numbering, timing, losses, retries, limits and stopping, against scripted sources."""

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.capture import Capture
from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError, SourceLost
from psm_stream.slot import END, Slot
from psm_stream.sources import Skipped
from psm_stream.testing import FakeSource, ManualClock, number_in, picture
from psm_stream.values import Frame

LOST = SourceLost("the cable is out")


class Run:
    """One capture, run in the test's own thread with a clock set by hand."""

    def __init__(self, source, slot=None, clock=None, pace="fast", wait=None, **limits):
        self.clock = clock or ManualClock()
        self.waited: list[float] = []
        self.notices = []
        self.slot = slot or Slot.queue(room=10_000)
        settings = SourceSettings(pace=pace, retry_s=0.25, retry_max_s=1.0)
        self.capture = Capture(
            source, self.slot, self.clock, self.notices.append, settings, wait=wait or self.wait, **limits
        )

    def wait(self, seconds):
        self.waited.append(seconds)
        self.clock.advance(seconds)

    def frames(self):
        self.capture.run()
        return self.rest()

    def rest(self):
        frames = []
        while isinstance(got := self.slot.get(0), Frame):
            frames.append(got)
        return frames


def indices(frames):
    return [frame.stamp.index for frame in frames]


def test_frames_carry_what_the_source_says_and_a_number():
    source = FakeSource([picture(7, t_source=0.5, t_capture=3.0), picture(8)])
    first, second = Run(source).frames()
    assert (first.stamp.index, first.stamp.t_capture, first.stamp.t_source) == (0, 3.0, 0.5)
    assert number_in(first.image) == 7
    assert (second.stamp.index, number_in(second.image)) == (1, 8)
    assert not source.is_open


def test_refused_pictures_leave_a_gap_and_are_counted():
    run = Run(FakeSource([picture(0), Skipped("decode", 2), Skipped("slot", 1), picture(1), Skipped("decode")]))
    frames = run.frames()
    assert indices(frames) == [0, 4]
    assert frames[1].stamp.dropped == {"decode": 2, "slot": 1}
    assert run.slot.undelivered == {"decode": 1}
    assert run.capture.captured == 6
    assert run.capture.ended


def test_the_limit_counts_captured_frames():
    run = Run(FakeSource([picture(0), Skipped("decode", 5), picture(1)]), max_frames=4)
    assert indices(run.frames()) == [0]
    assert run.capture.captured == 4
    assert run.slot.undelivered == {"decode": 3}
    assert run.slot.get(0) is END


def test_the_limit_in_seconds():
    run = Run(FakeSource([picture(n, n / 10) for n in range(100)], is_live=False), pace="live", max_seconds=0.45)
    assert indices(run.frames()) == [0, 1, 2, 3, 4]
    assert run.clock() == pytest.approx(1000.45)


def test_a_file_at_pace_live_is_captured_when_due():
    times = [0.0, 0.04, 0.05, 0.3]
    run = Run(FakeSource([picture(n, t) for n, t in enumerate(times)], is_live=False), pace="live")
    frames = run.frames()
    assert [frame.stamp.t_capture for frame in frames] == pytest.approx([1000.0 + t for t in times])
    assert [frame.stamp.t_source for frame in frames] == times
    assert run.waited == pytest.approx([0.04, 0.01, 0.25])


class SlowSource(FakeSource):
    """Each read takes its time on the clock."""

    def __init__(self, clock, read_s, count):
        super().__init__([picture(n, n / 10) for n in range(count)], is_live=False, fps=10)
        self._clock = clock
        self._read_s = read_s

    def read(self):
        self._clock.advance(self._read_s(self))
        return super().read()


def test_a_hitch_in_a_file_is_skipped_over_and_counted():
    clock = ManualClock()
    reads = iter([0, 0, 0, 0.35] + [0] * 20)
    run = Run(SlowSource(clock, lambda _: next(reads), 8), clock=clock, pace="live")
    frames = run.frames()
    assert indices(frames) == [0, 1, 2, 5, 6, 7]
    assert frames[3].stamp.dropped == {"slot": 2}
    assert run.capture.captured == 8
    assert run.notices == []


def test_a_file_too_slow_for_its_own_timing_is_announced_once_and_does_not_lag():
    clock = ManualClock()
    run = Run(SlowSource(clock, lambda _: 0.3, 40), clock=clock, pace="live")
    frames = run.frames()
    assert [notice.subject for notice in run.notices] == ["source.slow"]
    read_at = [1000.3 + 0.3 * number_in(frame.image) for frame in frames[-5:]]
    assert [frame.stamp.t_capture for frame in frames[-5:]] == pytest.approx(read_at)


def test_a_lost_source_is_announced_once_retried_with_back_off_and_announced_back():
    refused = SourceError("refused")
    source = FakeSource(
        [picture(0, t_capture=999.0), LOST, LOST, picture(1)], opens=[None, refused, refused, refused, None]
    )
    run = Run(source)
    frames = run.frames()
    assert indices(frames) == [0, 1]
    lost, back = run.notices
    assert (lost.subject, lost.t) == ("source.lost", 1000.0)
    assert lost.fields == {"source": "fake", "error": "the cable is out", "t_last": 999.0}
    assert run.waited == pytest.approx([0.25, 0.5, 1.0, 1.0, 1.0])
    assert back.subject == "source.back"
    assert back.fields == {"source": "fake", "seconds_lost": pytest.approx(3.75), "attempts": 5}
    assert source.times_opened == 3


def test_back_off_starts_anew_after_a_picture():
    run = Run(FakeSource([picture(0), LOST, picture(1), LOST, picture(2)]))
    assert indices(run.frames()) == [0, 1, 2]
    assert [notice.subject for notice in run.notices] == ["source.lost", "source.back"] * 2
    assert run.waited == pytest.approx([0.25, 0.25])


def test_a_try_that_takes_long_is_part_of_the_wait():
    clock = ManualClock()

    class Hanging(FakeSource):
        def open(self):
            if clock() > 1000.0:
                clock.advance(2.0)
            super().open()

    run = Run(Hanging([picture(0), LOST, LOST, LOST, picture(1)]), clock=clock)
    assert indices(run.frames()) == [0, 1]
    assert run.waited == [0.25]


def test_after_a_try_that_took_long_the_next_ones_wait_again():
    clock = ManualClock()
    takes_s = iter([0.0, 5.0, 0.0, 0.0, 0.0])

    class HangingOnce(FakeSource):
        def open(self):
            clock.advance(next(takes_s))
            super().open()

    run = Run(HangingOnce([picture(0), LOST, LOST, LOST, LOST, picture(1)]), clock=clock)
    assert indices(run.frames()) == [0, 1]
    assert run.waited == pytest.approx([0.25, 1.0, 1.0])


def test_a_run_with_a_limit_in_seconds_ends_though_its_source_is_lost():
    run = Run(FakeSource([picture(0), LOST], opens=[None] + [SourceError("refused")] * 1000), max_seconds=5.0)
    assert indices(run.frames()) == [0]
    assert run.clock() == pytest.approx(1005.0)
    assert run.slot.get(0) is END


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (FakeSource([], opens=[SourceError("there is no camera 9")]), SourceError),
        (FakeSource([picture(0), SourceError("cut off")], is_live=False), SourceError),
        (FakeSource([picture(0), SourceLost("a file is not retried")], is_live=False), SourceLost),
        (FakeSource([ZeroDivisionError("a bug")]), ZeroDivisionError),
        (FakeSource([LOST], opens=[None, ZeroDivisionError("a bug at the second try")]), ZeroDivisionError),
    ],
)
def test_errors_travel_through_the_slot(source, error):
    run = Run(source)
    with pytest.raises(error):
        run.frames()
    assert run.capture.ended
    assert not source.is_open


STEPS = st.one_of(
    st.just("picture"),
    st.builds(Skipped, st.sampled_from(["decode", "slot"]), st.integers(0, 5)),
    st.just("lost"),
)


@given(
    script=st.lists(STEPS, max_size=40),
    is_live=st.booleans(),
    pace=st.sampled_from(["live", "fast"]),
    newest=st.booleans(),
    max_frames=st.one_of(st.none(), st.integers(1, 30)),
    step_s=st.sampled_from([0.0, 0.01, 0.1, 0.3]),
    takes=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_captured_is_delivered_plus_dropped(*, script, is_live, pace, newest, max_frames, step_s, takes):
    clock = ManualClock()
    slot = Slot.latest() if newest else Slot.queue(room=1000)
    delivered = []
    taking = iter(takes)

    class Scripted(FakeSource):
        def read(self):
            clock.advance(step_s)
            got = slot.get(0) if next(taking) else None
            delivered.extend([got] if isinstance(got, Frame) else [])
            return super().read()

    steps = [
        picture(n, n / 10) if step == "picture" else LOST if step == "lost" else step
        for n, step in enumerate(script)
        if is_live or step != "lost"
    ]
    run = Run(Scripted(steps, is_live=is_live), slot=slot, clock=clock, pace=pace, max_frames=max_frames)
    run.capture.run()
    delivered += run.rest()

    dropped = sum((Counter(frame.stamp.dropped) for frame in delivered), Counter(slot.undelivered))
    assert run.capture.captured == len(delivered) + sum(dropped.values())
    expected = 0
    for frame in delivered:
        assert frame.stamp.index == expected + sum(frame.stamp.dropped.values())
        expected = frame.stamp.index + 1
    assert max_frames is None or run.capture.captured <= max_frames


class Blocking(FakeSource):
    """A live source that blocks in `open` or `read` until it is closed, as the contract says."""

    def __init__(self, where):
        super().__init__([picture(0)] * 3)
        self._where = where
        self._closed = threading.Event()
        self.blocked = threading.Event()

    def open(self):
        super().open()
        if self._where == "open":
            self._block()

    def read(self):
        if self._where == "read":
            self._block()
        return super().read()

    def close(self):
        self._closed.set()
        super().close()

    def _block(self):
        self.blocked.set()
        if not self._closed.wait(60):
            raise AssertionError("nobody closed the source")
        raise SourceLost("closed")


@pytest.mark.parametrize("where", ["open", "read"])
def test_stop_ends_a_source_that_blocks(where):
    source = Blocking(where)
    run = Run(source, wait=threading.Event().wait)
    run.capture.start()
    assert source.blocked.wait(10)
    run.capture.stop()
    assert run.capture.join(10)
    assert run.slot.get(0) is END


def test_stop_ends_the_wait_for_a_lost_source():
    source = FakeSource([LOST], opens=[None] + [SourceError("refused")] * 100_000)
    notices = []
    announced = threading.Event()
    settings = SourceSettings(retry_s=30.0, retry_max_s=30.0)
    slot = Slot.latest()

    def notify(notice):
        notices.append(notice)
        announced.set()

    capture = Capture(source, slot, ManualClock(), notify, settings)
    capture.start()
    assert announced.wait(10)
    capture.stop()
    assert capture.join(10)
    assert slot.get(0) is END


def test_stop_ends_the_wait_for_room():
    run = Run(FakeSource([picture(n) for n in range(10)], is_live=False), slot=Slot.queue(room=1))
    run.capture.start()
    first = run.slot.get(10)
    run.capture.stop()
    assert run.capture.join(10)
    dropped = run.slot.undelivered
    assert set(dropped) == {"stop"}
    assert run.capture.captured == 1 + dropped["stop"]
    assert number_in(first.image) == 0


def test_join_gives_up_on_a_source_that_hangs():
    release = threading.Event()

    class Hanging(FakeSource):
        def read(self):
            release.wait(60)

    run = Run(Hanging([], is_live=False))
    run.capture.start()
    run.capture.stop()
    assert not run.capture.join(0.05)
    release.set()
    assert run.capture.join(10)
