"""Arrays over a pipe: JSON that says what comes, then the arrays' bytes, which are neither copied nor unpickled."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct(">I")
_LONGEST = 1 << 16
"""Bytes of a header; a real one has some hundreds."""
_KINDS = "biuf"


def send(to: FileIO, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a message. about: plain values for JSON. arrays: of numbers. Raises OSError: the other end is gone."""
    parts = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"about": about, "arrays": parts}).encode()
    _write(to, memoryview(_LENGTH.pack(len(header)) + header))
    for array in arrays.values():
        _write(to, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def receive(source: FileIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a message.

    Raises EOFError: the other end is gone. Raises ValueError: what came is no message.
    """
    (length,) = _LENGTH.unpack(_read(source, bytearray(_LENGTH.size)))
    if length > _LONGEST:
        raise ValueError(f"a header of {length} bytes")
    try:
        message = json.loads(_read(source, bytearray(length)))
        about = dict(message["about"])
        parts = [(str(name), np.dtype(kind), tuple(map(int, shape))) for name, kind, shape in message["arrays"]]
    except (TypeError, KeyError) as error:
        raise ValueError(f"a header of another form: {error}") from error
    if any(kind.kind not in _KINDS for _, kind, _ in parts):
        raise ValueError("arrays of something else than numbers")
    return about, {name: _read_array(source, kind, shape) for name, kind, shape in parts}


def _read_array(source: FileIO, kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.empty(math.prod(shape), kind)
    _fill(source, array.view(np.uint8).data)
    return array.reshape(shape)


def _read(source: FileIO, into: bytearray) -> bytearray:
    _fill(source, memoryview(into))
    return into


def _fill(source: FileIO, left: memoryview) -> None:
    while left:
        count = source.readinto(left)
        if not count:
            raise EOFError("the other end is gone")
        left = left[count:]


def _write(to: FileIO, left: memoryview) -> None:
    while left:
        left = left[to.write(left) :]
