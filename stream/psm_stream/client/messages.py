"""What a subscriber receives, and how its bytes are read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from .connection import NotAnArray

SCHEMA = 1
"""The version of the header that this client understands."""

_NEEDED = {"schema": int, "topic": str, "seq": int, "session": str, "dtype": str, "shape": list}
_FLOATS = ("t_capture", "t_source", "t_publish", "confidence", "cluster_strength", "t_marker", "t_notice", "t_log")
_NUMBERS = re.compile(r"[<|][fiu][1248]")


class Malformed(ValueError):
    """These bytes are not a message; subscribers count it and go on."""


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """One message.

    header: see docs/wire.md; floats that are missing are NaN, whatever the header's format.
    value: the payload: a read-only array, text, what the JSON says, or None where there is none.
    t_receive: when it was taken from the socket, s on this machine's monotonic clock.
    """

    topic: str
    header: Mapping[str, Any]
    value: Any
    t_receive: float

    @property
    def array(self) -> NDArray[Any]:
        """The payload as a read-only array. Raises NotAnArray: it is something else."""
        if not isinstance(self.value, np.ndarray):
            raise NotAnArray(f"the payload of {self.topic} is {self.header['dtype'] or 'empty'}, not an array")
        return self.value


def decode_header(data: bytes) -> dict[str, Any]:
    """Read a msgpack or JSON header. Raises Malformed: it is neither, or a key that every header has is missing."""
    try:
        header = json.loads(data) if data.startswith(b"{") else msgpack.unpackb(data)
    except (ValueError, RecursionError, msgpack.UnpackException):
        raise Malformed("the header is neither msgpack nor JSON") from None
    if not isinstance(header, dict) or any(not isinstance(header.get(key), kind) for key, kind in _NEEDED.items()):
        raise Malformed("the header lacks a key")
    if header["schema"] != SCHEMA:
        raise Malformed(f"the header has schema {header['schema']}, not {SCHEMA}")
    for key in _FLOATS:
        if key in header and header[key] is None:
            header[key] = math.nan
    return header


def decode_payload(header: Mapping[str, Any], payload: bytes) -> Any:
    """Read a payload as its header says: array, text, JSON or None. Raises Malformed: the two do not agree."""
    dtype, shape = header["dtype"], header["shape"]
    if dtype == "":
        if payload:
            raise Malformed("a payload that the header does not announce")
        return None
    try:
        if dtype == "utf8":
            return payload.decode()
        if dtype == "json":
            return json.loads(payload)
        if not _NUMBERS.fullmatch(dtype) or any(type(side) is not int or side < 0 for side in shape):
            raise Malformed(f"no array has dtype {dtype!r} and shape {shape!r}")
        return np.frombuffer(payload, dtype).reshape(shape)
    except (ValueError, TypeError, RecursionError, OverflowError):
        raise Malformed(f"the payload is not {dtype} {shape}") from None
