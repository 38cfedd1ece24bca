"""A session opens up to its cut; damage and foreign files are one line that names the place; nothing else happens."""

import json
import random
import re
import shutil
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import zstandard
from mcap.writer import CompressionType, IndexType, Writer

from psm_stream.errors import SessionError
from psm_stream.record.codec import Start
from psm_stream.record.log import CHUNK_BYTES, LogWriter
from psm_stream.record.reader import Session
from psm_stream.record.testing import same_face, some_faces
from psm_stream.values import Faces
from psm_stream.wire.messages import Message

FRAMES = 12


def fill(recorder, builder) -> None:
    for index in range(FRAMES):
        recorder.input(some_faces(index, size_px=16))
        recorder.message(builder.heartbeat())
    recorder.stop()
    assert recorder.join(30)


@pytest.fixture
def finished(desk, builder):
    """The folder of a finished session."""
    recorder = desk.start()
    fill(recorder, builder)
    return recorder.folder


@pytest.fixture
def many_chunks(finished):
    """The same session, its log written in a chunk for every two frames, and not finished."""
    values = [logged.value for logged in Session(finished).entries()]
    log = BytesIO()
    writer = LogWriter(log)
    for number, value in enumerate(values):
        if isinstance(value, Message):
            writer.write_message(value, 0)
        else:
            writer.write_record(value, 0)
        if number % 4 == 0:
            writer.flush()
    writer.flush()
    (finished / "session.mcap").write_bytes(log.getvalue())
    unfinish(finished)
    return finished


def unfinish(folder) -> None:
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps(info | {"finished": None}))


def values_of(folder) -> list:
    return [_comparable(logged.value) for logged in Session(folder).entries()]


def values_or_refusal(folder) -> list | str:
    try:
        return values_of(folder)
    except SessionError as error:
        return str(error)


def _comparable(value):
    if isinstance(value, Faces):
        face = value.faces[0]
        return value.frame.index, face.crop.tobytes(), face.landmarks.tobytes(), face.confidence
    return value


def test_a_log_cut_anywhere_opens_and_gives_a_beginning_of_what_was_recorded(many_chunks):
    path = many_chunks / "session.mcap"
    whole, values = path.read_bytes(), values_of(many_chunks)
    lengths = set()
    for cut in sorted({0, 1, 7, 8, 9, 20, *random.Random(0).sample(range(len(whole)), 150), len(whole) - 1}):
        path.write_bytes(whole[:cut])
        session = Session(many_chunks)
        read = values_of(many_chunks)
        assert not session.is_finished
        assert session.size_bytes == cut
        assert read == values[: len(read)]
        lengths.add(len(read))
    assert len(lengths) > FRAMES / 2  # cuts at many places, not all or nothing


def test_a_cut_loses_no_whole_chunk(many_chunks):
    path = many_chunks / "session.mcap"
    whole, values = path.read_bytes(), values_of(many_chunks)
    path.write_bytes(whole + whole[8:200])  # a torn chunk follows
    with pytest.raises(SessionError):
        values_of(many_chunks)  # that was the header again, in the wrong place
    path.write_bytes(whole + b"\x06" + struct.pack("<Q", 500) + b"\0" * 30)
    assert values_of(many_chunks) == values


def test_zeros_that_a_power_cut_leaves_are_a_cut(many_chunks):
    path = many_chunks / "session.mcap"
    values = values_of(many_chunks)
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    assert values_of(many_chunks) == values
    assert Session(many_chunks).lost_bytes == 5000


def test_a_last_chunk_that_a_power_cut_left_incomplete_is_a_cut(many_chunks):
    path = many_chunks / "session.mcap"
    log, values = bytearray(path.read_bytes()), values_of(many_chunks)
    log[-300:] = bytes(300)
    path.write_bytes(log)
    read = values_of(many_chunks)
    assert read == values[: len(read)]
    assert 0 < len(read) < len(values)


def test_a_session_cut_before_its_log_began_is_empty(desk, builder):
    recorder = desk.start(model_epoch=0)
    fill(recorder, builder)
    unfinish(recorder.folder)
    for content in (None, b""):
        (recorder.folder / "session.mcap").unlink(missing_ok=True)
        if content is not None:
            (recorder.folder / "session.mcap").write_bytes(content)
        session = Session(recorder.folder)
        assert list(session.entries()) == []
        assert session.start() == Start(desk.encoder.model_id, 0)


def test_a_finished_log_that_became_shorter_is_damage_not_a_cut(finished):
    path = finished / "session.mcap"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SessionError, match=r"damaged: it ends at byte \d+, and info\.json says that it was finished"):
        Session(finished)


def test_a_log_finished_without_a_finished_info_is_whole(finished):
    unfinish(finished)
    assert Session(finished).is_finished


def test_a_flipped_bit_is_named_with_its_place_and_never_changes_what_is_read(finished):
    path = finished / "session.mcap"
    whole, values = path.read_bytes(), values_of(finished)
    draw = random.Random(1)
    damaged = 0
    for bit in [
        *range(0, 8 * 120, 3),
        *draw.sample(range(8 * len(whole)), 400),
        *range(8 * len(whole) - 8 * 120, 8 * len(whole), 3),
    ]:
        log = bytearray(whole)
        log[bit // 8] ^= 1 << bit % 8
        path.write_bytes(log)
        read = values_or_refusal(finished)
        if isinstance(read, str):
            damaged += 1
            assert re.search(r"^[^\n]*damaged(: it ends)? at byte \d+[^\n]*$", read), read
        else:
            assert read == values  # a bit of the summary, which nobody needs
    assert damaged > 500


def test_a_flipped_bit_in_a_cut_off_log_never_changes_what_is_read(many_chunks):
    path = many_chunks / "session.mcap"
    whole, values = path.read_bytes(), values_of(many_chunks)
    for bit in random.Random(2).sample(range(8 * len(whole)), 400):
        log = bytearray(whole)
        log[bit // 8] ^= 1 << bit % 8
        path.write_bytes(log)
        read = values_or_refusal(many_chunks)
        if isinstance(read, str):
            assert re.search(r"^[^\n]*damaged at byte \d+[^\n]*$", read), read
        else:
            assert read == values[: len(read)]


def test_a_crc_error_names_the_chunk(many_chunks):
    path = many_chunks / "session.mcap"
    log = bytearray(path.read_bytes())
    second = 8 + 9 + struct.unpack_from("<Q", log, 9)[0]
    log[second + 9 + 24] ^= 1
    path.write_bytes(log)
    with pytest.raises(SessionError, match=f"damaged at byte {second}: CRC error"):
        list(Session(many_chunks).entries())


def test_what_lies_before_the_damage_can_be_read(many_chunks):
    path = many_chunks / "session.mcap"
    log, values = bytearray(path.read_bytes()), values_of(many_chunks)
    log[len(log) // 2] ^= 1
    path.write_bytes(log)
    read = []
    with pytest.raises(SessionError):
        read.extend(_comparable(logged.value) for logged in Session(many_chunks).entries())
    assert len(read) > 0
    assert read == values[: len(read)]


def test_a_chunk_that_is_missing_or_repeated_shows(many_chunks):
    path = many_chunks / "session.mcap"
    log = path.read_bytes()
    starts, at = [], 8
    while at < len(log):
        starts.append(at)
        at += 9 + struct.unpack_from("<Q", log, at + 1)[0]
    missing = log[: starts[3]] + log[starts[4] :]
    repeated = log[: starts[4]] + log[starts[3] :]
    for changed in (missing, repeated):
        path.write_bytes(changed)
        with pytest.raises(SessionError, match="is missing"):
            list(Session(many_chunks).entries())


@pytest.mark.parametrize(
    "content",
    [
        b"not an mcap file at all",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        b"\x89MCAP0\r\n" + b"\x06" + b"\xff" * 8 + b"\0" * 50,
        b"\x89MCAP0\r\n" + b"\x01" + struct.pack("<Q", 2**60),
        b"\x89MCAP0\r\n" + b"\x42" + b"x" * 50,
        random.Random(0).randbytes(5000),
    ],
)
def test_a_foreign_log_is_one_line(finished, content):
    (finished / "session.mcap").write_bytes(content)
    with pytest.raises(SessionError) as refusal:
        list(Session(finished).entries())
    assert "\n" not in str(refusal.value)


def foreign_log(path, topic="input.faces", encoding="msgpack", body=b"\x80", profile="psm-session"):
    with path.open("wb") as file:
        writer = Writer(file, index_types=IndexType.NONE, compression=CompressionType.NONE)
        writer.start(profile=profile)
        channel = writer.register_channel(topic, encoding, 0)
        writer.add_message(channel, 0, body, 0, 0)
        writer.finish()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"profile": "ros1"}, "its profile is 'ros1'"),
        ({"topic": "/camera", "encoding": "ros1"}, "unknown encoding 'ros1'"),
        ({"topic": "input.unheard"}, "unknown channel 'input.unheard'"),
        ({"body": b"\xc1"}, "not msgpack"),
        ({"body": b"\xdd\xff\xff\xff\xff"}, "not msgpack"),
        ({"topic": "embedding.00", "encoding": "psm-message", "body": b"\1"}, "shorter than its own length"),
        ({"topic": "embedding.00", "encoding": "psm-message", "body": b"\xff\xff\0\0abc"}, "claims a header of 65535"),
    ],
)
def test_an_mcap_file_of_others_is_one_line(finished, changes, says):
    foreign_log(finished / "session.mcap", **changes)
    with pytest.raises(SessionError, match=says) as refusal:
        list(Session(finished).entries())
    assert "\n" not in str(refusal.value)


def a_chunk(packed: bytes, size: int, crc: int, compression: bytes = b"zstd") -> bytes:
    body = struct.pack("<QQQI", 0, 0, size, crc)
    body += struct.pack("<I", len(compression)) + compression + struct.pack("<Q", len(packed)) + packed
    return b"\x89MCAP0\r\n\x06" + struct.pack("<Q", len(body)) + body


@pytest.mark.parametrize(
    ("claimed", "says"), [(100, "claims 100 bytes and packs 314572800"), (2**40, "claims to hold")]
)
def test_a_chunk_that_unpacks_to_more_than_it_may_takes_no_memory(finished, claimed, says):
    bomb = zstandard.compress(bytes(300 * 2**20))
    (finished / "session.mcap").write_bytes(a_chunk(bomb, claimed, 0) + a_chunk(b"", 0, 0, b"")[8:])
    unfinish(finished)
    with pytest.raises(SessionError, match=says):
        list(Session(finished).entries())


def test_a_chunk_of_unheard_packing_is_one_line(finished):
    foreign = a_chunk(b"x", 1, zlib.crc32(b"x"), b"lzma")
    (finished / "session.mcap").write_bytes(foreign + a_chunk(b"", 0, 0, b"")[8:])
    unfinish(finished)
    with pytest.raises(SessionError, match="packed with 'lzma'"):
        list(Session(finished).entries())


def test_a_session_without_the_copy_of_its_model_says_so(desk, finished):
    shutil.rmtree(finished / "models")
    with pytest.raises(SessionError, match=f"no copy of model {desk.encoder.model_id}"):
        Session(finished).model_folder(desk.encoder.model_id)


def test_a_record_larger_than_a_chunk_comes_back(desk):
    recorder = desk.start()
    big = Message("log.info", b"h", np.random.default_rng(0).bytes(3 * CHUNK_BYTES))
    recorder.message(big)
    recorder.input(some_faces(0))
    recorder.stop()
    assert recorder.join(30)
    first, second = [logged.value for logged in Session(recorder.folder).entries()][1:]
    assert first == big
    assert same_face(second.faces[0], some_faces(0).faces[0])


def test_reading_changes_nothing(finished):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    values_of(finished)
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
