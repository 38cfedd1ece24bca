"""The backlog keeps order, is bounded both ways, and blocks only who asked for it."""

import threading

from psm_stream.record.backlog import Backlog, Bound


def test_items_leave_in_the_order_in_which_they_came():
    backlog = Backlog(Bound(10, 1000))
    assert all(backlog.put(number, 1) for number in range(5))
    assert (len(backlog), backlog.size_bytes) == (5, 5)
    assert backlog.take(0) == [0, 1, 2, 3, 4]


def test_it_refuses_at_its_bound_of_items():
    backlog = Backlog(Bound(2, 1000))
    assert [backlog.put(number, 1) for number in range(3)] == [True, True, False]


def test_it_refuses_at_its_bound_of_bytes():
    backlog = Backlog(Bound(10, 100))
    assert [backlog.put(number, 60) for number in range(2)] == [True, False]


def test_what_the_writer_has_in_hand_counts_until_it_takes_again():
    backlog = Backlog(Bound(2, 1000))
    backlog.put("a", 1)
    backlog.put("b", 1)
    assert backlog.take(0) == ["a", "b"]
    assert not backlog.put("c", 1)
    assert backlog.take(0) == []
    assert backlog.put("c", 1)


def test_an_item_larger_than_the_bound_passes_alone():
    backlog = Backlog(Bound(10, 100))
    assert backlog.put("huge", 1000)
    assert not backlog.put("small", 1)


def test_force_goes_beyond_the_bound():
    backlog = Backlog(Bound(1, 1))
    assert backlog.put(1, 1)
    assert backlog.put(2, 1, force=True)
    assert backlog.take(0) == [1, 2]


def test_closed_refuses_and_still_gives_what_waits():
    backlog = Backlog(Bound(10, 100))
    backlog.put("a", 1)
    backlog.close()
    assert not backlog.put("b", 1)
    assert not backlog.put("c", 1, force=True)
    assert backlog.take(60) == ["a"]
    assert backlog.take(60) == []


def test_gathering_ends_early_when_half_full():
    backlog = Backlog(Bound(4, 100))
    taken: list[list[int]] = []
    taker = threading.Thread(target=lambda: taken.append(backlog.take(60)))
    taker.start()
    backlog.put(1, 1)
    backlog.put(2, 1)
    taker.join(30)
    assert taken == [[1, 2]]


def test_who_waits_for_room_loses_nothing_and_keeps_order():
    backlog = Backlog(Bound(3, 100), wait_s=60)

    def put_all():
        for number in range(200):
            assert backlog.put(number, 1)
        backlog.close()

    putter = threading.Thread(target=put_all)
    putter.start()
    taken = []
    while not (backlog.closed and len(backlog) == 0):
        taken += backlog.take(0.01)
    putter.join(30)
    assert taken == list(range(200))


def test_closing_lets_go_who_waits_for_room():
    backlog = Backlog(Bound(1, 100), wait_s=60)
    backlog.put(1, 1)
    answers = []
    putter = threading.Thread(target=lambda: answers.append(backlog.put(2, 1)))
    putter.start()
    backlog.close()
    putter.join(30)
    assert answers == [False]


def test_patience_has_an_end():
    backlog = Backlog(Bound(1, 100), wait_s=0.01)
    assert backlog.put(1, 1)
    assert not backlog.put(2, 1)
