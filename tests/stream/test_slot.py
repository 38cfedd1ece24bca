"""The slot: newest wins or nothing is lost, and every frame is accounted for."""

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.errors import SourceError
from psm_stream.slot import END, Slot, slot_for
from psm_stream.testing import FakeSource
from psm_stream.values import Frame, Stamp

IMAGE = np.zeros((1, 1, 3), np.uint8)


def frame(index: int, **dropped: int) -> Frame:
    return Frame(Stamp(index, float(index), dropped=dropped), IMAGE)


def take_all(slot: Slot) -> list[Frame]:
    taken = []
    while isinstance(got := slot.get(0), Frame):
        taken.append(got)
    return taken


def test_latest_gives_the_newest_and_what_was_lost_before_it():
    slot = Slot.latest()
    for index in range(3):
        slot.put(frame(index))
    slot.put(frame(5, decode=2))
    (taken,) = take_all(slot)
    assert taken.stamp.index == 5
    assert taken.stamp.dropped == {"slot": 3, "decode": 2}
    slot.put(frame(6))
    assert take_all(slot)[0].stamp.dropped == {}


def test_queue_waits_for_room_and_keeps_order():
    slot = Slot.queue(room=2)
    writer = threading.Thread(target=lambda: [slot.put(frame(index)) for index in range(50)] and slot.end())
    writer.start()
    taken = []
    while (got := slot.get()) is not END:
        assert slot.depth <= 2
        taken.append(got.stamp.index)
    writer.join()
    assert taken == list(range(50))
    assert slot.undelivered == {}


def test_get_times_out():
    assert Slot.latest().get(0) is None


@pytest.mark.parametrize("slot", [Slot.latest(), Slot.queue()])
def test_an_error_travels_behind_the_frames(slot):
    slot.put(frame(0))
    slot.end(SourceError("gone"), {"decode": 1})
    assert slot.get().stamp.index == 0
    for _ in range(2):
        with pytest.raises(SourceError, match="gone"):
            slot.get()
    assert slot.undelivered == {"decode": 1}


def test_close_wakes_a_reader():
    slot = Slot.latest()
    got = []
    reader = threading.Thread(target=lambda: got.append(slot.get()))
    reader.start()
    slot.close()
    reader.join(5)
    assert got == [END]


def test_close_wakes_a_writer_and_counts_what_nobody_takes():
    slot = Slot.queue(room=1)
    slot.put(frame(0, decode=1))
    writer = threading.Thread(target=slot.put, args=(frame(2, slot=3),))
    writer.start()
    slot.close()
    writer.join(5)
    assert not writer.is_alive()
    assert slot.get() is END
    assert slot.undelivered == {"decode": 1, "slot": 3, "stop": 2}


@given(
    steps=st.lists(st.tuples(st.sampled_from(["put", "get", "lose"]), st.integers(1, 3))),
    room=st.sampled_from([None, 1000]),
    is_closed=st.booleans(),
)
def test_every_frame_is_delivered_or_counted(steps, room, is_closed):
    slot = Slot.latest() if room is None else Slot.queue(room)
    captured, lost, delivered = 0, Counter(), []
    for step, count in steps:
        if step == "lose":
            lost["decode"] += count
            captured += count
        for _ in range(count if step == "put" else 0):
            slot.put(frame(captured, **lost))
            lost.clear()
            captured += 1
        for _ in range(count if step == "get" else 0):
            delivered += [got for got in [slot.get(0)] if isinstance(got, Frame)]
    if is_closed:
        slot.close()
    slot.end(None, lost)
    delivered += take_all(slot)

    dropped = sum((Counter(got.stamp.dropped) for got in delivered), Counter(slot.undelivered))
    assert captured == len(delivered) + sum(dropped.values())
    expected = 0
    for got in delivered:
        assert got.stamp.index == expected + sum(got.stamp.dropped.values())
        expected = got.stamp.index + 1
    if room is not None and not is_closed:
        assert "slot" not in dropped


@pytest.mark.parametrize(
    ("is_live", "pace", "kept"), [(True, "live", 1), (True, "fast", 1), (False, "live", 1), (False, "fast", 2)]
)
def test_only_a_file_at_pace_fast_loses_nothing(is_live, pace, kept):
    slot = slot_for(FakeSource([], is_live=is_live), pace)
    slot.put(frame(0))
    slot.put(frame(1))
    assert len(take_all(slot)) == kept
