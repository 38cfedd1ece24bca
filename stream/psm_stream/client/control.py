"""Sending: control commands and markers, and the offset between two clocks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import msgpack
import zmq

from .connection import DEFAULT_ADDRESS, ClientError, NoAnswer, Refused, connect, full_address
from .messages import SCHEMA


@dataclass(frozen=True, slots=True)
class Offset:
    """How far the service's clock is ahead: service time = time.monotonic() + offset_s, within round_trip_s / 2."""

    offset_s: float
    round_trip_s: float


class Control:
    """Asks and commands, one at a time. Nothing is sent before the first call. timeout_s: for each answer.

    Raises ClientError: the address is none.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = 3.0) -> None:
        self.address = full_address(address)
        self._timeout_s = timeout_s
        self._context = zmq.Context()
        self._socket = connect(self._context, zmq.REQ, self.address)

    def send(self, command: str) -> str:
        """Send a command and return the answer, which may be one that starts with ERROR. Raises NoAnswer."""
        self._socket.send_string(command)
        if not self._socket.poll(int(self._timeout_s * 1000)):
            self._socket.close()  # a REQ socket that still waits for an answer cannot ask again
            self._socket = connect(self._context, zmq.REQ, self.address)
            raise NoAnswer(
                f"nobody answers at {self.address} within {self._timeout_s:g} s; start psm-stream, or give its address"
            )
        return self._socket.recv().decode(errors="replace")

    def ask(self, command: str) -> str:
        """Send a command and return the answer. Raises Refused: it is an error. NoAnswer."""
        answer = self.send(command)
        if answer.startswith("ERROR"):
            raise Refused(f"{command.partition(' ')[0]}: {answer}")
        return answer

    def marker(self, label: str) -> float:
        """Send a marker; return when it arrived, s on the service's clock. Raises Refused, NoAnswer."""
        return float(self.ask(f"A {label}").split()[-1])

    def time(self) -> float:
        """Return the service's clock now, s. Raises NoAnswer."""
        return float(self.ask("t"))

    def info(self) -> dict[str, Any]:
        """Return what INFO says: ports, session, mapping to unix time, and more. Raises NoAnswer."""
        return _json_map(self.ask("INFO"))

    def status(self) -> dict[str, Any]:
        """Return what STATUS says. Raises NoAnswer."""
        return _json_map(self.ask("STATUS"))

    def offset(self, rounds: int = 20) -> Offset:
        """Measure how far the service's clock is ahead of `time.monotonic()` here.

        One round: asked at a, answered with s, received at b. The answer was given between a and b, so
        offset = s - (a + b) / 2, wrong by at most (b - a) / 2. The round with the smallest b - a counts
        (Cristian 1989, Probabilistic clock synchronization). On one machine the true offset is 0. Raises NoAnswer.
        """
        measured = []
        for _ in range(rounds):
            asked = time.monotonic()
            answered = self.time()
            received = time.monotonic()
            measured.append(Offset(answered - (asked + received) / 2, received - asked))
        return min(measured, key=lambda one: one.round_trip_s)

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Control:
        """Use as a context manager: closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()


class Markers:
    """Sends markers without waiting for an answer, for use inside a stimulus loop.

    Arguments and errors as for Subscriber; `close` waits up to half a second for markers that are still on their way.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = 2.0) -> None:
        where = discover(address, "MARKER_PORT", timeout_s)
        self._context = zmq.Context()
        self._socket = connect(self._context, zmq.PUSH, where)
        self._socket.linger = 500

    def send(self, label: str, t: float | None = None, **fields: Any) -> None:
        """Send a marker. t: your own time of the event, any clock. fields: plain values. Raises NoAnswer."""
        own = {} if t is None else {"t": t}
        try:
            self._socket.send(msgpack.packb({"label": label, **own, **fields}), zmq.DONTWAIT)
        except zmq.Again:
            raise NoAnswer("markers are not taken; is psm-stream still running?") from None

    def close(self) -> None:
        """Send what is left, and disconnect."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Markers:
        """Use as a context manager: closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left, and disconnect."""
        self.close()


def discover(address: str, command: str, timeout_s: float) -> str:
    """Ask the control port for another port; return its address. Raises NoAnswer, ClientError: another schema."""
    with Control(address, timeout_s=timeout_s) as control:
        schema = control.info().get("schema")
        if schema != SCHEMA:
            raise ClientError(f"{control.address} speaks wire schema {schema}, this client {SCHEMA}; update the older")
        return f"{control.address.rpartition(':')[0]}:{control.ask(command)}"


def _json_map(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ClientError(f"the service answered {text[:80]!r}, not a JSON map; is that psm-stream?")
    return value
