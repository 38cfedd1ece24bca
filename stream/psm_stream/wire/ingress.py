"""The thread that listens: control requests and markers from outside, stamped on arrival.

It owns the REP and the PULL socket. What concerns the run goes into the main thread's inbox: `Marker`, `Order`
(a command that only the main thread can carry out) and `LogLine` (a marker that could not be read).
While an order waits for its answer, markers are taken and stamped as ever.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import zmq

from psm_stream.values import Marker
from psm_stream.wire.control import About, Desk, Order
from psm_stream.wire.markers import MalformedMarker, read_marker
from psm_stream.wire.messages import LogLine
from psm_stream.wire.ports import Sockets

__all__ = ["About", "Arrival", "Ingress", "Order"]

Arrival: TypeAlias = Marker | Order | LogLine
"""What the ingress puts into the inbox."""

BATCH = 256
"""Markers taken in one go, so that a flood of them does not keep control waiting."""

FULL_POLL_MS = 5
"""While the main thread has too many markers before it, room is looked for so often."""

COMPLAIN_EVERY_S = 1.0
"""Malformed markers are counted all, and told at most so often."""


class Ingress:
    """The listening half of the sockets, in a thread of its own.

    Args:
        sockets: bound; the caller closes them after `join`.
        about: what INFO says of the run.
        put: takes each arrival; called from this thread, must not block for long.
        state: plain values for STATUS and INFO; called from this thread.
        clock: stamps arrivals.
        has_room: tells whether another marker may be put; while not, senders wait at their own high-water mark.
        on_error: told at once when the thread dies; `join` raises the same error.
        answer_within_s: how long the main thread may take over an order.
    """

    def __init__(
        self,
        sockets: Sockets,
        about: About,
        put: Callable[[Arrival], None],
        state: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float],
        *,
        has_room: Callable[[], bool] = lambda: True,
        on_error: Callable[[BaseException], None] | None = None,
        answer_within_s: float = 2.0,
    ) -> None:
        self.markers_taken = 0
        self.markers_malformed = 0
        self._control = sockets.control
        self._markers = sockets.markers
        self._desk = Desk(sockets.ports, about, put, state, clock)
        self._put = put
        self._clock = clock
        self._has_room = has_room
        self._on_error = on_error
        self._answer_within_s = answer_within_s
        self._pending: tuple[Order, float] | None = None
        self._complaint = ""
        self._complained = (0, -COMPLAIN_EVERY_S)  # malformed markers told so far, and when
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._thread = threading.Thread(target=self._guarded, name="psm-ingress", daemon=True)

    def start(self) -> None:
        """Start listening."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it answers the request in hand first. From any thread."""
        self._stopping.set()
        self._wake()

    def join(self, timeout_s: float = 1.0) -> None:
        """Wait for the end after `stop`. Raises what killed the thread, or TimeoutError if it does not end."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"the ingress thread did not end within {timeout_s} s")
        self._wake_in.close()
        self._wake_out.close()
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._error = error
            if self._on_error is not None:
                self._on_error(error)

    def _run(self) -> None:
        poller = zmq.Poller()
        for source in (self._markers, self._control, self._wake_in):
            poller.register(source, zmq.POLLIN)
        while not self._stopping.is_set():
            is_open = self._has_room()
            poller.modify(self._markers, zmq.POLLIN if is_open else 0)
            ready = {source for source, _ in poller.poll(self._patience_ms() if is_open else FULL_POLL_MS)}
            if self._wake_in.fileno() in ready:
                self._fall_asleep()
            if self._markers in ready:
                self._take_markers()
            if self._control in ready:
                self._take_request()
            self._finish_order()
            self._complain()
        self._finish_order()
        if self._pending is not None:
            self._reply("ERROR shutting down")

    def _patience_ms(self) -> int | None:
        """How long there is nothing to do of our own accord."""
        now = self._clock()
        due = []
        if self._pending is not None:
            due.append(self._pending[1])
        if self.markers_malformed > self._complained[0]:
            due.append(self._complained[1] + COMPLAIN_EVERY_S)
        return max(0, int((min(due) - now) * 1000)) + 1 if due else None

    def _take_markers(self) -> None:
        for _ in range(BATCH):
            if not self._has_room():
                return
            try:
                parts = self._markers.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                marker = read_marker(parts, self._clock())
            except MalformedMarker as error:
                self.markers_malformed += 1
                self._complaint = str(error)
            else:
                self.markers_taken += 1
                self._put(marker)

    def _take_request(self) -> None:
        try:
            parts = self._control.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:  # REP threw away an envelope that no REQ makes
            return
        t = self._clock()
        answer = self._desk.handle(parts, t)
        if isinstance(answer, Order):
            self._pending = answer, t + self._answer_within_s
            answer.reply.add_done_callback(lambda _: self._wake())
        else:
            self._reply(answer)

    def _finish_order(self) -> None:
        if self._pending is None:
            return
        order, deadline = self._pending
        if order.reply.done():
            failure = order.reply.exception()
            self._reply(order.reply.result() if failure is None else f"ERROR {failure}")
        elif self._clock() >= deadline:
            self._reply(f"ERROR the live loop did not answer within {self._answer_within_s:g} s")

    def _reply(self, text: str) -> None:
        self._pending = None
        self._control.send(text.encode(errors="replace"), zmq.DONTWAIT)

    def _complain(self) -> None:
        now = self._clock()
        told, when = self._complained
        if self.markers_malformed == told or now < when + COMPLAIN_EVERY_S:
            return
        self._complained = self.markers_malformed, now
        count = self.markers_malformed - told
        self._put(LogLine("warning", f"{count} malformed marker(s) ignored, the last: {self._complaint}", now))

    def _wake(self) -> None:
        try:
            self._wake_out.send(b"!")
        except (BlockingIOError, OSError):
            return  # awake already, or gone: an answer that came after the end

    def _fall_asleep(self) -> None:
        try:
            while self._wake_in.recv(4096):
                pass
        except BlockingIOError:
            return
