"""The reader's thread: a device that hangs, fails or is closed never blocks or loses an error."""

import threading

import pytest

from psm_stream.errors import SourceError, SourceLost
from psm_stream.sources.reader import Reader


class Device:
    """Gives `items`, then raises `error`, or hangs if there is none."""

    def __init__(self, items, error=None, hangs_in_open=False):
        self._items = iter(items)
        self._error = error
        self._hangs_in_open = hangs_in_open
        self.let_go = threading.Event()
        self.closed = threading.Event()

    def open(self):
        if self._hangs_in_open:
            self.let_go.wait(60)

    def next(self):
        for item in self._items:
            return item
        if self._error is None:
            self.let_go.wait(60)
            return None
        raise self._error

    def close(self):
        self.closed.set()


@pytest.fixture
def hanging():
    device = Device([])
    yield device
    device.let_go.set()
    assert device.closed.wait(10)


def test_items_come_in_order_and_then_the_error():
    device = Device([1, 2, 3], SourceLost("unplugged"))
    reader = Reader(device, room=10)
    assert reader.start(10)
    assert device.closed.wait(10)
    assert reader.take(10) == ([1, 2, 3], 0)
    with pytest.raises(SourceLost, match="unplugged"):
        reader.take(10)


def test_the_oldest_are_lost_and_counted():
    device = Device(range(10), SourceLost("end"))
    reader = Reader(device, room=3)
    reader.start(10)
    assert device.closed.wait(10)
    assert reader.take(10) == ([7, 8, 9], 7)


def test_a_device_that_cannot_be_opened():
    class Missing(Device):
        def open(self):
            raise SourceError("there is none")

    device = Missing([])
    with pytest.raises(SourceError, match="there is none"):
        Reader(device, room=1).start(10)
    assert device.closed.is_set()


def test_a_device_that_hangs_is_a_time_out(hanging):
    reader = Reader(hanging, room=1)
    assert not reader.start(0.01)
    assert reader.take(0.01) == ([], 0)
    reader.close()


def test_an_error_at_closing_is_not_lost():
    class Sticky(Device):
        def close(self):
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        Reader(Sticky([], SourceLost("end")), room=1).start(10)


@pytest.mark.parametrize("hangs_in_open", [True, False])
def test_close_wakes_whoever_waits_and_the_thread_closes_the_device_later(hangs_in_open):
    device = Device([], hangs_in_open=hangs_in_open)
    reader = Reader(device, room=1)
    threading.Timer(0.02, reader.close).start()
    with pytest.raises(SourceLost):
        reader.start(60)
    assert not device.closed.is_set()
    device.let_go.set()
    assert device.closed.wait(10)


def test_close_is_idempotent_and_stops_reading():
    device = Device(range(10**9))
    reader = Reader(device, room=1)
    reader.start(10)
    reader.close()
    reader.close()
    assert device.closed.wait(10)
    with pytest.raises(SourceLost):
        reader.take(0)
