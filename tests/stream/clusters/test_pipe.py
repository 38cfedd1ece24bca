"""Arrays over a real pipe."""

import json
import os
import struct
import threading
from collections.abc import Iterator
from io import FileIO

import numpy as np
import pytest

from psm_stream.clusters.pipe import receive, send


@pytest.fixture
def ends() -> Iterator[tuple[FileIO, FileIO]]:
    read, write = os.pipe()
    with FileIO(read, "rb") as source, FileIO(write, "wb") as to:
        yield source, to


def test_what_is_sent_is_received(ends: tuple[FileIO, FileIO], rng: np.random.Generator) -> None:
    source, to = ends
    arrays = {
        "far more than a pipe holds": rng.normal(size=(300, 256)),
        "every other column": rng.integers(0, 9, size=(5, 8))[:, ::2],
        "one number": np.array(7, np.int64),
        "none": np.empty((0, 3), np.float32),
        "flags": np.array([True, False]),
    }
    thread = threading.Thread(target=lambda: [send(to, {"n": count}, arrays) for count in range(2)])
    thread.start()
    for count in range(2):
        about, received = receive(source)
        assert about == {"n": count}
        assert list(received) == list(arrays)
        for name, array in arrays.items():
            assert received[name].dtype == array.dtype
            np.testing.assert_array_equal(received[name], array, strict=True)
    thread.join()


def test_text_is_no_message(ends: tuple[FileIO, FileIO]) -> None:
    source, to = ends
    to.write(b"hello world\n")
    with pytest.raises(ValueError, match="a header of"):
        receive(source)


@pytest.mark.parametrize("whole", [0, 2, 30, -1])
def test_an_end_in_the_middle_is_told(ends: tuple[FileIO, FileIO], whole: int) -> None:
    source, to = ends
    send(to, {}, {"a": np.ones(9)})
    message = os.read(source.fileno(), 1000)
    to.write(message[:whole])
    to.close()
    with pytest.raises(EOFError):
        receive(source)


@pytest.mark.parametrize(
    "header",
    [
        b"not JSON",
        b"[]",
        b"{}",
        json.dumps({"about": {}, "arrays": [["a", "|O", [1]]]}).encode(),
        json.dumps({"about": {}, "arrays": [["a", "no such kind", [1]]]}).encode(),
        json.dumps({"about": {}, "arrays": [["a", "<f8", [-1]]]}).encode(),
    ],
)
def test_what_is_no_message_is_refused(ends: tuple[FileIO, FileIO], header: bytes) -> None:
    source, to = ends
    to.write(struct.pack(">I", len(header)) + header + bytes(8))
    with pytest.raises(ValueError, match=r"."):
        receive(source)
