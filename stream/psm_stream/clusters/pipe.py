"""Arrays over a pipe: a line of JSON that says what comes, then the arrays' bytes, neither copied nor unpickled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_MOST_HEADER = 1 << 20
_KINDS = "biuf"


def send(to: BinaryIO, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a message to an unbuffered file. about: plain values for JSON. Raises OSError: the other end is gone."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    parts = [[name, array.dtype.str, list(arrays[name].shape)] for name, array in whole.items()]
    _write(to, json.dumps({"about": about, "arrays": parts}).encode() + b"\n")
    for array in whole.values():
        _write(to, memoryview(array.reshape(-1).view(np.uint8)))


def receive(source: BinaryIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a message from an unbuffered file.

    Raises EOFError: the other end is gone. Raises ValueError: what came is no message.
    """
    header = bytearray()
    while not header.endswith(b"\n"):
        piece = source.read(1)  # headers are short; whatever is read beyond would belong to an array
        if not piece:
            raise EOFError("the other end is gone")
        header += piece
        if len(header) > _MOST_HEADER:
            raise ValueError("a header without an end")
    try:
        message = json.loads(header)
        parts = [(str(name), np.dtype(kind), tuple(map(int, shape))) for name, kind, shape in message["arrays"]]
        about = dict(message["about"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"a header of another form: {error}") from error
    if any(kind.kind not in _KINDS for _, kind, _ in parts):
        raise ValueError("arrays of something else than numbers")
    arrays = {}
    for name, kind, shape in parts:
        array = np.empty(math.prod(shape), kind)
        _read(source, memoryview(array.view(np.uint8)))
        arrays[name] = array.reshape(shape)
    return about, arrays


def _write(to: BinaryIO, what: bytes | memoryview) -> None:
    left = memoryview(what)
    while left:
        left = left[to.write(left) :]


def _read(source: BinaryIO, into: memoryview) -> None:
    while into:
        count = source.readinto(into)  # type: ignore[attr-defined]  # raw files have it
        if not count:
            raise EOFError("the other end is gone")
        into = into[count:]
