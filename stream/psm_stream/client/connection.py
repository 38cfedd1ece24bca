"""Addresses, sockets and errors of the client.

ClientError
├── NoAnswer         nobody answers at the address within the time given
├── Refused          the service answered ERROR
└── NotAnArray       the payload of this message is text, JSON or nothing
"""

from __future__ import annotations

import math
import re
import time
from typing import Any

import zmq

DEFAULT_ADDRESS = "tcp://127.0.0.1:50120"

_ADDRESS = re.compile(r"(?:tcp://)?(?:(?P<host>[\w.-]+|\[[\w.:%]+\]):)?(?P<port>[0-9]{1,5})", re.ASCII)


class ClientError(Exception):
    """Base of what can go wrong here; the message is one line."""


class NoAnswer(ClientError):
    """Nobody answers at the address."""


class Refused(ClientError):
    """The service answered ERROR."""


class NotAnArray(ClientError):
    """The payload is text, JSON or nothing."""


def full_address(address: str) -> str:
    """Return "tcp://host:port" for that, "host:port" or "port". Raises ClientError: it is none of them."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ClientError(f"{address!r} is no address; give tcp://host:port, host:port or port")
    return f"tcp://{found['host'] or '127.0.0.1'}:{found['port']}"


def connect(
    context: zmq.Context[Any], kind: int, address: str, *, receive_queue: int = 1000, conflate: bool = False
) -> zmq.Socket[bytes]:
    """Connect a socket to "tcp://host:port"; whether anybody is there shows later."""
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.linger = 0
    socket.rcvhwm = receive_queue
    socket.setsockopt(zmq.CONFLATE, int(conflate))
    socket.setsockopt(zmq.IPV6, int("[" in address))
    # a service that vanished without a word (cable, power) is noticed and connected to again
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 6000)
    socket.connect(address)
    return socket


def is_readable(socket: zmq.Socket[bytes], deadline: float | None) -> bool:
    """Wait until there is something to take, or until the deadline, s monotonic; None: without end."""
    if deadline is None:
        return bool(socket.poll(None))
    return bool(socket.poll(max(0, math.ceil((deadline - time.monotonic()) * 1000))))
