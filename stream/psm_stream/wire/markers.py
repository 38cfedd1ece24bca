"""Reads a marker that another program pushed: text, a JSON map or a msgpack map. The bytes may be anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from psm_stream.values import Marker

LABEL_MAX_BYTES = 1024
"""UTF-8 bytes of a label."""

FIELDS_MAX_DEPTH = 4
"""Maps and lists inside each other, the marker's own map included."""


class MalformedMarker(ValueError):
    """These bytes are not a marker; the message says why in a few words."""


def read_marker(parts: Sequence[bytes], t: float) -> Marker:
    """Return the marker in one message from the PULL socket.

    The bytes are text if they are UTF-8, and then a JSON map if they start with "{"; else a msgpack map. (A msgpack
    map is never UTF-8: its first byte, or the one after it, cannot stand there.) In a map `label` is the label, all
    else goes to `fields`, with the sender's own time in `fields["t"]`.

    Args:
        parts: the parts of the message; a marker has one.
        t: when it arrived.

    Raises MalformedMarker: anything else.
    """
    if len(parts) != 1:
        raise MalformedMarker(f"{len(parts)} parts instead of one")
    data = parts[0]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _from_map(_unpack(data), t)
    if text.startswith("{"):
        return _from_map(_parse_json(text), t)
    return Marker(check_label(text), t, "remote")


def check_label(text: str) -> str:
    """Return the label without the white space around it. Raises MalformedMarker: empty, too long or not UTF-8."""
    label = text.strip()
    if not label:
        raise MalformedMarker("the label is empty")
    if len(_utf8(label)) > LABEL_MAX_BYTES:
        raise MalformedMarker(f"the label is longer than {LABEL_MAX_BYTES} bytes")
    return label


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data)
    except (ValueError, RecursionError, msgpack.UnpackException):
        raise MalformedMarker("neither UTF-8 text nor a msgpack map") from None


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedMarker("starts with { and is no JSON map") from None


def _from_map(value: Any, t: float) -> Marker:
    if not isinstance(value, Mapping):
        raise MalformedMarker("the msgpack value is no map")
    label = value.get("label")
    if not isinstance(label, str):
        raise MalformedMarker("the map has no text under 'label'")
    sent = value.get("t", 0.0)
    if isinstance(sent, bool) or not isinstance(sent, int | float):
        raise MalformedMarker("'t' is no number")
    _check_plain(value, FIELDS_MAX_DEPTH)
    return Marker(check_label(label), t, "remote", {key: inner for key, inner in value.items() if key != "label"})


def _check_plain(value: Any, depth: int) -> None:
    """Raise MalformedMarker for what a header could not carry on: it is packed again in the main thread."""
    if value is None or isinstance(value, bool | float):
        return
    if isinstance(value, str):
        _utf8(value)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise MalformedMarker("a whole number needs more than 64 bits")
    elif not isinstance(value, Mapping | list):
        raise MalformedMarker(f"a value of type {type(value).__name__}")
    elif depth == 0:
        raise MalformedMarker(f"nested deeper than {FIELDS_MAX_DEPTH}")
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, depth - 1)
    else:
        for key, inner in value.items():
            if not isinstance(key, str):
                raise MalformedMarker("a key is no text")
            _utf8(key)
            _check_plain(inner, depth - 1)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair
        raise MalformedMarker("text that is not Unicode") from None
