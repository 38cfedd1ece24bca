"""The four bound sockets, and which port each has.

They are bound together, before any thread starts, so that a taken port is an error at start and `auto` finds four
neighbours that are free. Choices that hold for all of them are made here.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TypeAlias

import zmq

from psm_stream.config import WireSettings
from psm_stream.errors import ConfigError, PortTaken

Socket: TypeAlias = zmq.Socket[bytes]

SEND_QUEUE = 4096
"""Messages queued for one slow subscriber before it loses new ones: about 40 s of one face at 30 fps, at most 20 MB."""

INBOUND_MAX_BYTES = 65536
"""A larger marker or command gets its sender disconnected."""

REPLY_LINGER_MS = 100
"""The reply to QUIT may still be on its way when the socket closes."""

AUTO_TRIES = 64


@dataclass(frozen=True, slots=True)
class Ports:
    """Port numbers: control (REP), publish (PUB), latest (PUB), markers (PULL)."""

    control: int
    publish: int
    latest: int
    markers: int


class Sockets:
    """The four sockets, bound. Whoever opened them closes them, after the threads that use them have ended."""

    def __init__(self, bind: str) -> None:
        self._bind = bind
        self._context = zmq.Context()
        self.control: Socket = self._socket(zmq.REP)
        self.publish: Socket = self._socket(zmq.PUB)
        self.latest: Socket = self._socket(zmq.PUB)
        self.markers: Socket = self._socket(zmq.PULL)
        self.control.linger = REPLY_LINGER_MS
        self.publish.sndhwm = SEND_QUEUE
        # one message a subscriber, the newest: even a reader that does not conflate gets no long backlog from here
        self.latest.setsockopt(zmq.CONFLATE, 1)
        self.ports = Ports(0, 0, 0, 0)

    def bind(self, control: int) -> None:
        """Bind at `control` and the three ports after it; 0 takes any free one as the first.

        Raises PortTaken: another program holds one of them; those already bound are given back.
        Raises ConfigError: the address cannot be bound.
        """
        bound: list[tuple[Socket, str]] = []
        try:
            for offset, socket in enumerate((self.control, self.publish, self.latest, self.markers)):
                port = control + offset if control else 0
                _bind(socket, self._bind, port)
                endpoint = socket.get_string(zmq.LAST_ENDPOINT)
                bound.append((socket, endpoint))
                control = control or int(endpoint.rpartition(":")[2])
        except ConfigError:
            for socket, endpoint in bound:
                socket.unbind(endpoint)
            raise
        self.ports = Ports(control, control + 1, control + 2, control + 3)

    def close(self) -> None:
        """Close them all and wait for their ports to be free; safe to call twice."""
        for socket in (self.control, self.publish, self.latest, self.markers):
            socket.close()
        self._context.term()

    def _socket(self, kind: int) -> Socket:
        socket: Socket = self._context.socket(kind)
        socket.linger = 0  # or the process hangs at exit behind a stalled subscriber
        socket.setsockopt(zmq.MAXMSGSIZE, INBOUND_MAX_BYTES)
        socket.setsockopt(zmq.IPV6, int(":" in self._bind))
        return socket


def open_sockets(settings: WireSettings) -> Sockets:
    """Open and bind the four sockets.

    Raises PortTaken: another program holds a port, or `auto` found no four free neighbours.
    Raises ConfigError: `wire.bind` is no address of this machine.
    """
    sockets = Sockets(settings.bind)
    try:
        if settings.control_port == "auto":
            _bind_anywhere(sockets)
        else:
            sockets.bind(settings.control_port)
    except BaseException:
        sockets.close()
        raise
    return sockets


def _bind_anywhere(sockets: Sockets) -> None:
    for _ in range(AUTO_TRIES):
        try:
            return sockets.bind(0)
        except PortTaken:
            continue
    raise PortTaken(f"no four free ports in a row after {AUTO_TRIES} tries; give one with --control-port N")


def _bind(socket: Socket, host: str, port: int) -> None:
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    try:
        socket.bind(f"tcp://{name}:{port}")
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE or port > 65535:
            raise PortTaken(
                f"port {port} on {host} is taken by another program (psm-stream needs four in a row); "
                "stop it, or choose others with --control-port N or --control-port auto"
            ) from None
        if error.errno == errno.EACCES:
            raise ConfigError(f"port {port} on {host} needs more rights; choose one above 1023") from None
        raise ConfigError(f"wire.bind {host!r} is no address of this machine; use 127.0.0.1 or 0.0.0.0") from None
