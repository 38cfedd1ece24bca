"""Sends messages to whoever listens, and never waits for them."""

from __future__ import annotations

from collections import Counter

import zmq

from psm_stream.wire.messages import Message
from psm_stream.wire.ports import Sockets

_MORE = zmq.DONTWAIT | zmq.SNDMORE


class Publisher:
    """The publishing half of the sockets; used by the main thread alone.

    ZeroMQ keeps up to `ports.SEND_QUEUE` messages for each subscriber; one that falls further behind loses messages
    and sees a gap in `seq`. `published` counts what was handed over, by kind of topic, whether or not anybody listens.
    """

    def __init__(self, sockets: Sockets) -> None:
        self._publish = sockets.publish
        self._latest = sockets.latest
        self.published: Counter[str] = Counter()

    def send(self, message: Message) -> None:
        """Publish the three parts."""
        topic, header, payload = message.parts()
        self._publish.send(topic, _MORE)
        self._publish.send(header, _MORE)
        self._publish.send(payload, zmq.DONTWAIT)
        self.published[message.kind] += 1

    def send_latest(self, message: Message) -> None:
        """Replace what the readers of the `latest` port have not read yet."""
        self._latest.send(message.framed(), zmq.DONTWAIT)
        self.published[message.kind] += 1
