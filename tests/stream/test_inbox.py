"""The inbox: one order, and a bound on how far the aligner runs ahead."""

import threading

from psm_stream.inbox import Inbox


def test_keeps_the_order_of_both_doors() -> None:
    inbox: Inbox[str] = Inbox(room=2)
    inbox.put_when_room("frame 0")
    inbox.put("marker")
    inbox.put_when_room("frame 1")
    assert [inbox.get(0) for _ in range(4)] == ["frame 0", "marker", "frame 1", None]


def test_orders_pass_while_there_is_no_room() -> None:
    inbox: Inbox[str] = Inbox(room=1)
    inbox.put_when_room("frame 0")
    writer = threading.Thread(target=inbox.put_when_room, args=("frame 1",))
    writer.start()
    for n in range(1000):
        inbox.put(f"order {n}")
    assert inbox.get(0) == "frame 0"
    writer.join(5)
    assert not writer.is_alive()  # room came free
    rest = [inbox.get(0) for _ in range(1001)]
    assert "frame 1" in rest
    assert [item for item in rest if item != "frame 1"] == [f"order {n}" for n in range(1000)]


def test_close_lets_a_waiting_writer_go_and_loses_nothing() -> None:
    inbox: Inbox[int] = Inbox(room=1)
    inbox.put_when_room(0)
    writer = threading.Thread(target=inbox.put_when_room, args=(1,))
    writer.start()
    inbox.close()
    writer.join(5)
    assert not writer.is_alive()
    assert [inbox.get(0), inbox.get(0), inbox.get(0)] == [0, 1, None]
