"""The listening thread, over real sockets: orders, markers, malformed bytes of every kind, and its end."""

from __future__ import annotations

import json
import queue
import threading
import time
from contextlib import closing

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psm_stream.config import WireSettings
from psm_stream.testing import ManualClock
from psm_stream.values import Marker
from psm_stream.wire.ingress import About, Ingress, Order
from psm_stream.wire.messages import LogLine
from psm_stream.wire.ports import INBOUND_MAX_BYTES, open_sockets

PATIENCE_S = 20.0


def answer_at_once(item: object) -> None:
    """Stands for a main thread that has time for every order."""
    if isinstance(item, Order):
        item.reply.set_result("OK")


class Rig:
    """An ingress, what it put, and sockets that talk to it."""

    def __init__(self, answer_within_s: float = PATIENCE_S, state=dict, put=None, clock=time.monotonic) -> None:
        self.got: queue.SimpleQueue = queue.SimpleQueue()
        self.errors: list[BaseException] = []
        self.sockets = open_sockets(WireSettings(control_port="auto"))
        self.ingress = Ingress(
            self.sockets,
            About("0" * 32, 0.0),
            put or self.got.put,
            state,
            clock,
            on_error=self.errors.append,
            answer_within_s=answer_within_s,
        )
        self.ingress.start()
        self.context = zmq.Context()

    def connect(self, kind: int, port: int) -> zmq.Socket:
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.rcvtimeo = socket.sndtimeo = int(PATIENCE_S * 1000)
        socket.connect(f"tcp://127.0.0.1:{port}")
        return socket

    def asker(self) -> zmq.Socket:
        return self.connect(zmq.REQ, self.sockets.ports.control)

    def pusher(self) -> zmq.Socket:
        return self.connect(zmq.PUSH, self.sockets.ports.markers)

    def ask(self, *parts: bytes) -> str:
        with self.asker() as socket:
            socket.send_multipart(parts)
            return socket.recv().decode()

    def next(self):
        return self.got.get(timeout=PATIENCE_S)

    def still_answers(self) -> bool:
        return float(self.ask(b"t")) <= time.monotonic()

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.ingress.stop()
        self.ingress.join(PATIENCE_S)
        self.sockets.close()


@pytest.fixture
def rig():
    with closing(Rig()) as rig:
        yield rig


@pytest.fixture(scope="module")
def target():
    """One ingress for all fuzzing, so that what one input breaks, the next would see."""
    with closing(Rig(put=answer_at_once)) as rig:
        yield rig


def test_answers_and_stamps_on_arrival(rig):
    before = time.monotonic()
    reply = rig.ask(b"A go")
    marker = rig.next()
    assert reply == f"OK {marker.t!r}"
    assert (marker.label, marker.origin) == ("go", "control")
    assert before <= marker.t <= time.monotonic()


def test_takes_markers_of_each_form(rig):
    with rig.pusher() as pusher:
        for data in (b"text", b'{"label": "json", "t": 1.5}', msgpack.packb({"label": "msgpack", "n": 1})):
            pusher.send(data)
        markers = [rig.next() for _ in range(3)]
    assert [(marker.label, dict(marker.fields), marker.origin) for marker in markers] == [
        ("text", {}, "remote"),
        ("json", {"t": 1.5}, "remote"),
        ("msgpack", {"n": 1}, "remote"),
    ]
    assert rig.ingress.markers_taken == 3


def test_thousands_of_markers_all_arrive_in_order_and_control_answers_meanwhile(rig):
    with rig.pusher() as pusher:
        for index in range(5000):
            pusher.send(b"m%d" % index)
            if index % 500 == 0:
                assert rig.still_answers()
        assert [rig.next().label for _ in range(5000)] == [f"m{index}" for index in range(5000)]


def test_an_order_is_answered_when_the_main_thread_has_done_it(rig):
    with rig.asker() as asker:
        asker.send(b"R first try")
        order = rig.next()
        assert (order.command, order.argument) == ("R", "first try")
        assert not asker.poll(50)
        order.reply.set_result("OK done")
        assert asker.recv() == b"OK done"


def test_markers_are_stamped_while_an_order_waits(rig):
    with rig.asker() as asker, rig.pusher() as pusher:
        asker.send(b"FREEZE")
        order = rig.next()
        pusher.send(b"meanwhile")
        marker = rig.next()
        done = time.monotonic()
        order.reply.set_result("OK")
        assert asker.recv() == b"OK"
    assert isinstance(marker, Marker)
    assert marker.t < done


def test_an_order_that_failed_is_an_error_reply(rig):
    with rig.asker() as asker:
        asker.send(b"REVERT")
        rig.next().reply.set_exception(ValueError("no general encoder"))
        assert asker.recv() == b"ERROR no general encoder"
    assert rig.still_answers()


def test_a_main_thread_that_does_not_answer_is_an_error_and_its_late_answer_goes_nowhere():
    with closing(Rig(answer_within_s=0.05)) as rig:
        assert rig.ask(b"THAW") == "ERROR the live loop did not answer within 0.05 s"
        late = rig.next()
        late.reply.set_result("OK too late")
        with rig.asker() as asker:
            asker.send(b"QUIT")
            order = rig.next()
            order.reply.set_result("OK")
            assert asker.recv() == b"OK"
        assert rig.still_answers()


def test_an_asker_that_left_before_the_answer_harms_nobody(rig):
    with rig.asker() as asker:
        asker.send(b"FREEZE")
        order = rig.next()
    order.reply.set_result("OK")
    assert rig.still_answers()


@pytest.mark.parametrize(
    "parts", [(b"",), (b"\xff\xfe",), (b"t", b"t"), (b"",) * 9, (b"t" * 60_000,), (b"\x00",), ("ü" * 999).encode()]
)
def test_malformed_requests_get_an_error_and_the_service_goes_on(rig, parts):
    parts = (parts,) if isinstance(parts, bytes) else parts
    assert rig.ask(*parts).startswith("ERROR ")
    assert rig.still_answers()


def test_a_peer_that_sends_too_much_is_cut_off_and_the_service_goes_on(rig):
    with rig.asker() as asker, rig.pusher() as pusher:
        asker.send(b"A " + b"x" * (2 * INBOUND_MAX_BYTES))
        pusher.send(b"x" * (INBOUND_MAX_BYTES + 1))
        assert rig.still_answers()
        with rig.pusher() as other:
            other.send(b"still here")
            assert rig.next().label == "still here"
        assert not asker.poll(0)


def test_malformed_markers_are_all_counted_and_told_once_a_second():
    clock = ManualClock()
    with closing(Rig(clock=clock)) as rig, rig.pusher() as pusher:
        pusher.send(b"\xff")
        assert rig.next() == LogLine(
            "warning", "1 malformed marker(s) ignored, the last: the msgpack value is no map", clock()
        )
        for index in range(9):
            pusher.send(b"\xff")
            pusher.send(b"%d" % index)
            assert rig.next() == Marker(str(index), clock(), "remote")  # and no line before it
        clock.advance(1.0)
        # told when the second is over, without a further marker to prompt it
        assert rig.next().text.startswith("9 malformed")
        assert (rig.ingress.markers_taken, rig.ingress.markers_malformed) == (9, 10)


BOMBS = [
    b"[" * 60_000,
    b'{"label":' + b"[" * 60_000,
    b'{"label": "x", "a": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    b"\x91" * 60_000,
    b"\x81\xa1a" * 20_000,
    b"\xdf\xff\xff\xff\xff" * 100,
    b'{"label": "x", "n": ' + b"9" * 60_000 + b"}",
    b'{"label": "x", "n": NaN, "m": [Infinity, -1e999]}',
    b'{"label": "\\ud800"}',
    msgpack.packb({"label": "x", "t": float("nan")}),
    msgpack.packb({"label": "x", "t": 2**64 - 1}),
    msgpack.packb({"label": msgpack.ExtType(1, b"x" * 100)}),
]

ANYTHING = (
    st.binary(max_size=300)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from(BOMBS)
    | st.sampled_from([b"t", b"A x", b"A ", b"INFO", b"STATUS", b"SCHEMA", b"v"])
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.lists(ANYTHING, min_size=1, max_size=4))
def test_control_survives_anything(target, parts):
    with target.asker() as asker:
        asker.send_multipart(parts)
        assert len(asker.recv_multipart()) == 1
    assert target.still_answers()


@FUZZ
@given(st.lists(st.lists(ANYTHING, min_size=1, max_size=3), min_size=1, max_size=8))
def test_markers_survive_anything(target, messages):
    before = target.ingress.markers_taken + target.ingress.markers_malformed
    with target.pusher() as pusher:
        for parts in messages:
            pusher.send_multipart(parts)
        while target.ingress.markers_taken + target.ingress.markers_malformed < before + len(messages):
            assert target.still_answers()


@FUZZ
@given(st.lists(st.binary(max_size=64), min_size=1, max_size=5))
def test_control_survives_clients_that_are_no_clients(target, parts):
    """A DEALER may send envelopes that no REQ makes; a raw socket may send no ZeroMQ at all."""
    with target.connect(zmq.DEALER, target.sockets.ports.control) as dealer:
        dealer.send_multipart(parts)
        assert target.still_answers()
    with target.context.socket(zmq.STREAM) as raw:
        raw.linger = 0
        raw.connect(f"tcp://127.0.0.1:{target.sockets.ports.control}")
        peer = raw.recv()
        raw.recv()
        raw.send_multipart([peer, b"".join(parts) or b"x"])
        assert target.still_answers()


def test_stop_answers_the_order_in_hand(rig):
    with rig.asker() as asker:
        asker.send(b"FREEZE")
        order = rig.next()
        rig.ingress.stop()
        rig.ingress.join(PATIENCE_S)
        assert asker.recv() == b"ERROR shutting down"
    order.reply.set_result("OK")  # too late, and harmless though the thread has gone


def test_the_reply_to_quit_arrives_though_everything_closes_at_once():
    with closing(Rig()) as rig, rig.asker() as asker:
        asker.send(b"QUIT")
        rig.next().reply.set_result("OK")
        rig.ingress.stop()
        rig.ingress.join(PATIENCE_S)
        rig.sockets.close()
        assert asker.recv() == b"OK"


def test_stop_before_start_and_twice():
    sockets = open_sockets(WireSettings(control_port="auto"))
    ingress = Ingress(sockets, About("0" * 32, 0.0), print, dict, time.monotonic)
    ingress.stop()
    ingress.stop()
    ingress.join()
    sockets.close()


def test_an_error_in_the_thread_reaches_the_user_both_ways():
    failure = RuntimeError("the inbox is gone")

    def broken() -> dict:
        raise failure

    rig = Rig(state=broken)
    with rig.asker() as asker:
        asker.send(b"STATUS")
        with pytest.raises(RuntimeError, match="the inbox is gone"):
            rig.ingress.join(PATIENCE_S)
    assert rig.errors == [failure]
    rig.context.destroy(linger=0)
    rig.sockets.close()


def test_a_thread_that_does_not_end_is_an_error():
    release = threading.Event()
    sockets = open_sockets(WireSettings(control_port="auto"))
    stuck = threading.Event()

    def block(_: object) -> None:
        stuck.set()
        release.wait()

    ingress = Ingress(sockets, About("0" * 32, 0.0), block, dict, time.monotonic)
    ingress.start()
    with zmq.Context() as context, context.socket(zmq.PUSH) as pusher:
        pusher.linger = 0
        pusher.connect(f"tcp://127.0.0.1:{sockets.ports.markers}")
        pusher.send(b"x")
        assert stuck.wait(PATIENCE_S)
        ingress.stop()
        with pytest.raises(TimeoutError, match="ingress"):
            ingress.join(0.01)
        release.set()
        ingress.join(PATIENCE_S)
    sockets.close()


def test_status_is_json(rig):
    assert set(json.loads(rig.ask(b"STATUS"))) == {"t"}
