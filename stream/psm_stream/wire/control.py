"""Control commands: what is answered on the spot, and what becomes an order for the main thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any

import psm_stream
from psm_stream.values import Marker
from psm_stream.wire import schema
from psm_stream.wire.markers import MalformedMarker, check_label
from psm_stream.wire.messages import json_bytes
from psm_stream.wire.ports import Ports

ORDERS = ("R", "r", "C", "c", "FREEZE", "THAW", "REVERT", "RECLUSTER", "CLUSTERS", "L", "SNAPSHOT", "QUIT")
"""Commands for the main thread."""
_TAKES = {"R": "R [name]", "L": "L <cluster> <name>"}
"""Those with an argument, and what they look like."""

UNKNOWN = "ERROR unknown command"


@dataclass(frozen=True, slots=True)
class Order:
    """A control command that the main thread carries out; `reply.set_result("OK")` answers whoever sent it.

    t: when it arrived. An answer that comes too late goes nowhere, and does no harm.
    """

    command: str
    argument: str
    t: float
    reply: Future[str] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class About:
    """What INFO says of this run and does not change. unix_minus_monotonic: s, taken at the start."""

    session: str
    unix_minus_monotonic: float
    header: str = "msgpack"


class Desk:
    """Answers control requests.

    `put` takes markers and orders to the main thread, `state` is asked for STATUS and INFO; both from this thread.
    """

    def __init__(
        self,
        ports: Ports,
        about: About,
        put: Callable[[Marker | Order], None],
        state: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float],
    ) -> None:
        self._ports = ports
        self._about = about
        self._put = put
        self._state = state
        self._clock = clock
        self._answers: dict[str, Callable[[], str]] = {
            "t": lambda: repr(self._clock()),
            "v": lambda: psm_stream.__version__,
            "PUB_PORT": lambda: str(ports.publish),
            "SUB_PORT": lambda: str(ports.publish),  # as with Pupil Remote: where to subscribe
            "LATEST_PORT": lambda: str(ports.latest),
            "MARKER_PORT": lambda: str(ports.markers),
            "STATUS": self._status,
            "INFO": self._info,
            "SCHEMA": lambda: _text(schema.as_dict()),
        }

    def handle(self, parts: Sequence[bytes], t: float) -> str | Order:
        """Answer one request, or return the order whose answer is still to come. t: when the request arrived."""
        try:
            (part,) = parts
            text = part.decode().strip()
        except ValueError:
            return "ERROR a command is one part of UTF-8 text"
        command, _, argument = text.partition(" ")
        if command == "A":
            return self._mark(argument, t)
        if command in self._answers:
            return f"ERROR {command} takes no argument" if argument else self._answers[command]()
        if command in ORDERS:
            return self._order(command, argument, t)
        return UNKNOWN

    def _mark(self, label: str, t: float) -> str:
        try:
            self._put(Marker(check_label(label), t, "control"))
        except MalformedMarker as error:
            return f"ERROR {error}; send A <label>"
        return f"OK {t!r}"

    def _order(self, command: str, argument: str, t: float) -> str | Order:
        if argument and command not in _TAKES:
            return f"ERROR {command} takes no argument"
        try:
            order = Order(command, check_label(argument) if argument else "", t)
        except MalformedMarker as error:
            return f"ERROR {error}; send {_TAKES[command]}"
        self._put(order)
        return order

    def _status(self) -> str:
        return _text({"t": self._clock(), **self._state()})

    def _info(self) -> str:
        t = self._clock()
        return _text(
            {
                **self._state(),
                "schema": schema.SCHEMA,
                "version": psm_stream.__version__,
                "session": self._about.session,
                "header": self._about.header,
                "t": t,
                "unix": t + self._about.unix_minus_monotonic,
                "unix_minus_monotonic": self._about.unix_minus_monotonic,
                "ports": asdict(self._ports),
            }
        )


def _text(values: Mapping[str, Any]) -> str:
    return json_bytes(values).decode()
