"""Receiving: every message in order, or always the newest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import zmq

from .connection import DEFAULT_ADDRESS, connect, full_address, is_readable
from .control import discover
from .messages import ClientMessage, Malformed, decode_header, decode_payload


class Subscriber:
    """Messages whose topic starts with one of `topics`, in order. Connects again by itself when the service restarts.

    Args:
        address: of the control port ("tcp://host:port", "host:port" or "port").
        topics: prefixes; all by default.
        timeout_s: how long the control port may take to answer.
        publish_address: of the PUB socket itself; then nobody is asked, and the service may start later.
        queue: messages kept here while nobody takes them; a reader that lags more loses messages.

    Attributes:
        lost: messages missing so far, by gaps in `seq`; `lost_by_topic` says where.
        malformed: messages that could not be read, and were left out.
        skipped: messages that `latest` passed over.

    Raises NoAnswer: nobody answers at the address. ClientError: it speaks another schema, or is no address.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        topics: Sequence[str] = ("",),
        *,
        timeout_s: float = 2.0,
        publish_address: str | None = None,
        queue: int = 10_000,
    ) -> None:
        self._address = full_address(publish_address) if publish_address else discover(address, "SUB_PORT", timeout_s)
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._queue = queue
        self._next: dict[tuple[str, str], int] = {}
        self.lost_by_topic: Counter[str] = Counter()
        self.malformed = 0
        self.skipped = 0
        self._context = zmq.Context()
        self._socket = self._open()

    @property
    def lost(self) -> int:
        """Messages missing so far, on all topics."""
        return self.lost_by_topic.total()

    def receive(self, timeout_s: float | None = None) -> ClientMessage | None:
        """Return the next message, or None if none comes in time. timeout_s None: wait without end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while is_readable(self._socket, deadline):
            message = self._take()
            if message is not None:
                return message
        return None

    def latest(self, timeout_s: float = 1.0) -> ClientMessage | None:
        """Return the newest message there is and drop all before it, of every topic; never an old one.

        If none is waiting, the next one that comes within timeout_s; then None. A reader that stayed away for so long
        that its queue filled up has only old messages waiting, since ZeroMQ then drops the new ones: they are thrown
        away with the connection, and the first message of a new connection is returned.
        """
        newest = None
        # the sender learns that there is room only when half the queue has been read, so half may be all there is
        for _ in range(max(1, self._queue // 2)):
            if not self._socket.poll(0):
                break
            taken = self._take()
            self.skipped += newest is not None and taken is not None
            newest = taken or newest
        else:
            self.skipped += newest is not None
            newest = None
            self._socket.close()
            self._socket = self._open()
        return newest if newest is not None else self.receive(timeout_s)

    def __iter__(self) -> Iterator[ClientMessage]:
        """Iterate over all messages, without end."""
        while True:
            message = self.receive()
            if message is not None:
                yield message

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Subscriber:
        """Use as a context manager: closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()

    def _open(self) -> zmq.Socket[bytes]:
        socket = connect(self._context, zmq.SUB, self._address, receive_queue=self._queue)
        for topic in self._topics:
            socket.subscribe(topic)
        return socket

    def _take(self) -> ClientMessage | None:
        parts = self._socket.recv_multipart(zmq.DONTWAIT)
        t_receive = time.monotonic()
        try:
            if len(parts) != 3:
                raise Malformed("a message has three parts")
            header = decode_header(parts[1])
            value = decode_payload(header, parts[2])
        except Malformed:
            self.malformed += 1
            return None
        self._count(header)
        return ClientMessage(header["topic"], header, value, t_receive)

    def _count(self, header: Mapping[str, Any]) -> None:
        topic, seq = header["topic"], header["seq"]
        key = header["session"], topic
        self.lost_by_topic[topic] += max(0, seq - self._next.get(key, seq))
        self._next[key] = seq + 1


class LatestReader:
    """The newest frame, whenever you ask: reads the `latest` port, where nothing older can wait.

    A frame without a face has `face_id` -1, a NaN vector and a `reason`. Arguments and errors as for Subscriber.
    """

    def __init__(
        self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = 2.0, latest_address: str | None = None
    ) -> None:
        where = full_address(latest_address) if latest_address else discover(address, "LATEST_PORT", timeout_s)
        self.malformed = 0
        self._context = zmq.Context()
        self._socket = connect(self._context, zmq.SUB, where, receive_queue=1, conflate=True)
        self._socket.subscribe(b"")

    def read(self, timeout_s: float = 1.0) -> ClientMessage | None:
        """Return the newest frame not read before, waiting for one if need be; None if none comes in time."""
        deadline = time.monotonic() + timeout_s
        while is_readable(self._socket, deadline):
            data = self._socket.recv(zmq.DONTWAIT)
            t_receive = time.monotonic()
            try:
                start = 4 + int.from_bytes(data[:4], "little")
                header = decode_header(data[4:start])
                return ClientMessage(header["topic"], header, decode_payload(header, data[start:]), t_receive)
            except Malformed:
                self.malformed += 1
        return None

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> LatestReader:
        """Use as a context manager: closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()
