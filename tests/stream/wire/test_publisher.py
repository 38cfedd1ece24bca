"""The publisher: counts what it sends and never waits."""

from __future__ import annotations

import time
from contextlib import closing

import msgpack
import pytest
import zmq

from psm_stream.config import WireSettings
from psm_stream.values import Marker
from psm_stream.wire.fake import fake_embedding
from psm_stream.wire.messages import MessageBuilder
from psm_stream.wire.ports import SEND_QUEUE, open_sockets
from psm_stream.wire.publisher import Publisher


@pytest.fixture
def sockets():
    with closing(open_sockets(WireSettings(control_port="auto"))) as sockets:
        yield sockets


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


def builder() -> MessageBuilder:
    return MessageBuilder("0" * 32, "msgpack", time.monotonic)


def subscriber(context, port: int, **options) -> zmq.Socket:
    socket = context.socket(zmq.SUB)
    socket.linger = 0
    for name, value in options.items():
        socket.setsockopt(getattr(zmq, name), value)
    socket.subscribe(b"")
    socket.connect(f"tcp://127.0.0.1:{port}")
    return socket


def publish_until_received(send, socket) -> None:
    """A subscription takes effect at some later time; only a received message proves that it did."""
    while not socket.poll(10):
        send()


def indices_until(last: int, socket, publisher: Publisher, make: MessageBuilder):
    """Read frame indices up to `last`, and send it again when it does not come.

    ZeroMQ's conflating pipe may leave a message with a reader that fell asleep just then, until the next one wakes it.
    """
    index = -1
    while index != last:
        if socket.poll(200):
            yield (index := index_of(socket.recv()))
        else:
            publisher.send_latest(make.latest(fake_embedding(last, 1.0)))


def index_of(framed: bytes) -> int:
    return msgpack.unpackb(framed[4 : 4 + int.from_bytes(framed[:4], "little")])["frame_index"]


def test_sends_three_parts_and_counts_them_by_kind(sockets, context):
    publisher, make = Publisher(sockets), builder()
    with subscriber(context, sockets.ports.publish) as socket:
        publish_until_received(lambda: publisher.send(make.heartbeat()), socket)
        before = publisher.published["heartbeat"]
        message = make.embedding(fake_embedding(7, 1.0))
        publisher.send(message)
        publisher.send(make.marker(Marker("m", 1.0, "remote")))
        received = [socket.recv_multipart()]
        while received[-1][0] != b"marker.remote":
            received.append(socket.recv_multipart())
    assert list(message.parts()) in received
    assert publisher.published == {"heartbeat": before, "embedding": 1, "marker": 1}


def test_latest_is_one_part_and_only_the_newest_waits(sockets, context):
    publisher, make = Publisher(sockets), builder()
    with subscriber(context, sockets.ports.latest, CONFLATE=1) as socket:
        publish_until_received(lambda: publisher.send_latest(make.latest(fake_embedding(0, 1.0))), socket)
        for index in range(500):
            publisher.send_latest(make.latest(fake_embedding(index, 1.0)))
        seen = list(indices_until(499, socket, publisher, make))
        assert seen == sorted(seen)  # what is on its way replaces what is here
        while socket.poll(20):
            assert index_of(socket.recv()) == 499
        assert len(seen) < 400
    assert publisher.published["latest"] > 500


def test_a_reader_of_latest_that_does_not_conflate_gets_the_newest_too(sockets, context):
    publisher, make = Publisher(sockets), builder()
    with subscriber(context, sockets.ports.latest, RCVHWM=10, RCVBUF=4096) as socket:
        publish_until_received(lambda: publisher.send_latest(make.latest(fake_embedding(0, 1.0))), socket)
        for index in range(1, 20_001):
            publisher.send_latest(make.latest(fake_embedding(index, 1.0)))
        # without CONFLATE on our side the newest would have been dropped
        assert list(indices_until(20_000, socket, publisher, make))[-1] == 20_000


def test_a_stalled_subscriber_loses_messages_and_holds_nobody(sockets, context):
    publisher, make = Publisher(sockets), builder()
    with subscriber(context, sockets.ports.publish, RCVHWM=10, RCVBUF=4096) as stalled:
        publish_until_received(lambda: publisher.send(make.heartbeat()), stalled)
        count = SEND_QUEUE * 3
        for index in range(count):  # returns, though nobody reads; a send that had to wait would raise zmq.Again
            publisher.send(make.face(fake_embedding(index, 1.0).face))
        assert publisher.published["face"] == count
        seqs = []
        while stalled.poll(200):
            topic, header, _ = stalled.recv_multipart()
            if topic == b"face.00":
                seqs.append(msgpack.unpackb(header)["seq"])
    assert seqs == sorted(seqs)
    assert 0 < len(seqs) < count


def test_closing_does_not_wait_for_a_stalled_subscriber(context):
    sockets = open_sockets(WireSettings(control_port="auto"))
    publisher, make = Publisher(sockets), builder()
    with subscriber(context, sockets.ports.publish, RCVHWM=10) as stalled:
        publish_until_received(lambda: publisher.send(make.heartbeat()), stalled)
        for index in range(SEND_QUEUE):
            publisher.send(make.face(fake_embedding(index, 1.0).face))
        sockets.close()  # hangs here until the test's time limit if LINGER is not 0
