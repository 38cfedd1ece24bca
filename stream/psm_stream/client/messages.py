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

_FLOAT = (float, int)
_KEYS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "topic": str,
    "seq": int,
    "session": str,
    "frame_index": int,
    "t_capture": _FLOAT,
    "t_source": _FLOAT,
    "t_publish": _FLOAT,
    "face_id": int,
    "confidence": _FLOAT,
    "model_id": str,
    "model_epoch": int,
    "cluster": int,
    "cluster_strength": _FLOAT,
    "cluster_version": int,
    "dtype": str,
    "shape": list,
}
"""What every header has."""
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
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise Malformed(f"the header is not one of schema {SCHEMA}")
    for key, kind in _KEYS.items():
        if kind is _FLOAT and header.get(key, 0) is None:
            header[key] = math.nan  # JSON has no NaN
        if not isinstance(header.get(key), kind):
            raise Malformed(f"the header has no proper {key!r}")
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
