"""Reading markers: the three forms, and everything else refused with a reason."""

from __future__ import annotations

import json
import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.values import Marker
from psm_stream.wire.markers import LABEL_MAX_BYTES, MalformedMarker, read_marker
from psm_stream.wire.messages import MessageBuilder

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def test_text_is_a_label():
    assert read_marker([" Ton 4 äöü\n".encode()], 5.0) == Marker("Ton 4 äöü", 5.0, "remote")


@pytest.mark.parametrize("pack", [msgpack.packb, lambda value: json.dumps(value).encode()])
def test_a_map_has_a_label_the_senders_time_and_more(pack):
    marker = read_marker([pack({"label": "go", "t": 12.5, "trial": 3, "where": [1, {"x": None}]})], 5.0)
    assert marker == Marker("go", 5.0, "remote", {"t": 12.5, "trial": 3, "where": [1, {"x": None}]})


@pytest.mark.parametrize("many", [16, 40, 2000])
def test_a_large_msgpack_map_is_not_taken_for_text(many):
    fields = {f"k{index}": index for index in range(many)}
    assert read_marker([msgpack.packb({"label": "go", **fields})], 5.0).fields == fields


DEEP_JSON = b'{"label": "x", "a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"
DEEP_MSGPACK = b"\x82\xa5label\xa1x\xa1a" + b"\x91" * 60_000 + b"\x01"
REFUSED = {
    "empty": b"",
    "white space": b" \n\t",
    "too long": b"x" * (LABEL_MAX_BYTES + 1),
    "bytes": b"\xff\xfe\x00\x01",
    "number": msgpack.packb(200),
    "list": msgpack.packb(["\udc80" * 0, 1, 2] * 8),
    "JSON list in a map's clothes": b"{]",
    "label plus brace": b"{trial 3}",
    "no label": b'{"name": "x"}',
    "label is a number": b'{"label": 3}',
    "label is empty": b'{"label": "  "}',
    "time is text": b'{"label": "x", "t": "now"}',
    "time is a truth": b'{"label": "x", "t": true}',
    "big int": b'{"label": "x", "n": 18446744073709551616}',
    "huge int": b'{"label": "x", "n": ' + b"9" * 60_000 + b"}",
    "half a surrogate": b'{"label": "\\ud800"}',
    "half a surrogate as key": b'{"label": "x", "\\ud800": 1}',
    "half a surrogate as value": b'{"label": "x", "a": "\\udfff"}',
    "deep JSON": DEEP_JSON,
    "deep msgpack": DEEP_MSGPACK,
    "five deep": b'{"label": "x", "a": [[[[1]]]]}',
    "binary value": msgpack.packb({"label": "x", "a": b"\xff"}),
    "binary key": msgpack.packb({b"label": "x"}),
    "extension": msgpack.packb({"label": "x", "a": msgpack.ExtType(5, b"\xff")}),
    "time stamp": msgpack.packb({"label": "x", "a": msgpack.Timestamp(1, 1)}),
    "promises four billion items": b"\xdf\xff\xff\xff\xff",
    "promises a long text": b"\x81\xdb\xff\xff\xff\xff",
    "cut short": msgpack.packb({"label": "x", "a": 1})[:-1],
    "followed by more": msgpack.packb({"label": "x"}) + b"\xc0",
    "invalid UTF-8 inside": b"\x81\xa5label\xa2\xff\xfe",
    "reserved byte": b"\xc1",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refuses_with_one_short_line(data):
    with pytest.raises(MalformedMarker) as caught:
        read_marker([data], 5.0)
    assert 0 < len(str(caught.value)) < 100
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parts", [[], [b"a", b"b"], [b""] * 50])
def test_refuses_any_number_of_parts_but_one(parts):
    with pytest.raises(MalformedMarker, match="parts"):
        read_marker(parts, 5.0)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_marker_that_can_be_published_or_are_refused(data):
    try:
        marker = read_marker([data], 5.0)
    except MalformedMarker:
        return
    for header_format in ("msgpack", "json"):
        MessageBuilder("0" * 32, header_format, lambda: 0.0).marker(marker)


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4), st.text(min_size=1, max_size=20))
def test_any_map_is_a_marker_that_can_be_published_or_is_refused(fields, label):
    packed = msgpack.packb({**fields, "label": label})
    try:
        marker = read_marker([packed], 5.0)
    except MalformedMarker:
        return
    assert marker.label == label.strip()
    for header_format in ("msgpack", "json"):
        MessageBuilder("0" * 32, header_format, lambda: 0.0).marker(marker)


@given(st.integers(0, 2**16 - 1))
def test_no_header_of_a_msgpack_map_begins_a_text_that_fits(count):
    """The rule that tells the two apart: a map16 header within the size limit is never valid UTF-8."""
    head = b"\xde" + struct.pack(">H", count)
    if count * 2 + len(head) <= 65536:  # a key and a value take a byte each at least
        with pytest.raises(UnicodeDecodeError):
            (head + b"a" * 8).decode()
