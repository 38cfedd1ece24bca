"""The log of a session being read: MCAP framing that trusts nothing, and names the place of any damage.

`survey` finds where the whole records end without reading them; `records` then gives what lies in the chunks. Every
length is checked before memory is taken for it.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Header, Message
from mcap.writer import MCAP0_MAGIC

from psm_stream.record.log import PROFILE

RECORD_LIMIT = 256 * 2**20
"""Bytes of one record or unpacked chunk: ours are near 1 MB, and ten faces of 2048 px would fit."""

_HEAD = struct.Struct("<BQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_ENDING = (Opcode.DATA_END, Opcode.FOOTER, Opcode.STATISTICS, Opcode.SUMMARY_OFFSET, Opcode.CHANNEL, Opcode.SCHEMA)


class Damage(Exception):
    """A log is not as it was written. offset: byte in the file at which that shows."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"damaged at byte {offset}: {what}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a log there is.

    end: byte after the last whole record. is_whole: the log was finished. size: bytes in the file.
    data_crc: CRC of everything before the end, where the log was finished.
    """

    end: int
    is_whole: bool
    size: int
    data_crc: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the log. sequence: its position. offset: byte of the chunk that holds it."""

    channel: str
    encoding: str
    body: bytes
    log_ns: int
    sequence: int
    offset: int


def survey(file: BinaryIO) -> Extent:
    """Find how much of a log is there. Raises Damage: what is there is not the beginning of a log of ours."""
    extent, last = _walk(file)
    if not extent.is_whole and last < extent.end:
        # a power cut can leave the last chunk with its length and without all of its content
        try:
            _content(*_record_at(file, last), last)
        except Damage:
            return Extent(last, False, extent.size)
    return extent


def _walk(file: BinaryIO) -> tuple[Extent, int]:
    """Return the extent, and where its last record begins."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(len(MCAP0_MAGIC))
    if magic != MCAP0_MAGIC[: len(magic)]:
        raise Damage(0, "it does not begin as an MCAP file does")
    if len(magic) < len(MCAP0_MAGIC):
        return Extent(0, False, size), 0
    last = offset = len(MCAP0_MAGIC)
    while True:
        head = _peek(file, offset, _HEAD.size)
        if len(head) < _HEAD.size:
            return Extent(offset, False, size), last
        opcode, length = _HEAD.unpack(head)
        follows = offset + _HEAD.size + length
        if opcode == Opcode.DATA_END and length == 4 and follows <= size:
            return _finished(file, offset, size), last
        if opcode not in (Opcode.HEADER, Opcode.CHUNK):
            if _is_blank(file, offset, size):
                return Extent(offset, False, size), last  # a power cut leaves zeros where data had no time to go
            raise Damage(offset, f"unknown record type {opcode:#04x}")
        if length > RECORD_LIMIT:
            raise Damage(offset, f"a record claims {length} bytes")
        if follows > size:
            _check_torn_chunk(file, offset, opcode, length)
            return Extent(offset, False, size), last
        last, offset = offset, follows


def entries(file: BinaryIO, extent: Extent) -> Iterator[Entry]:
    """Give everything in the log up to `extent.end`, in order.

    Raises Damage: a checksum, length, order or content is wrong.
    """
    channels: dict[int, Channel] = {}
    file.seek(0)
    data_crc = zlib.crc32(file.read(len(MCAP0_MAGIC)))
    offset = len(MCAP0_MAGIC)
    expected = 0
    while offset < extent.end:
        opcode, body = _record_at(file, offset)
        data_crc = zlib.crc32(body, zlib.crc32(_HEAD.pack(opcode, len(body)), data_crc))
        for entry in _split(_content(opcode, body, offset), offset, channels):
            if entry.sequence != expected % 2**32:
                raise Damage(offset, f"record {expected} is missing, {entry.sequence} follows")
            expected += 1
            yield entry
        offset += _HEAD.size + len(body)
    if extent.is_whole and data_crc != extent.data_crc:
        raise Damage(extent.end, f"the log's CRC is {data_crc:#010x}, {extent.data_crc:#010x} was written")


def _finished(file: BinaryIO, offset: int, size: int) -> Extent:
    """Check what follows the data: the summary's framing and the closing magic."""
    (data_crc,) = struct.unpack("<I", _peek(file, offset + _HEAD.size, 4))
    at = offset
    while True:
        head = _peek(file, at, _HEAD.size)
        if len(head) < _HEAD.size:
            return Extent(offset, False, size)  # cut off while the summary was written: no input is missing
        opcode, length = _HEAD.unpack(head)
        if opcode not in _ENDING:
            raise Damage(at, f"unknown record type {opcode:#04x}")
        at += _HEAD.size + length
        if at > size:
            return Extent(offset, False, size)
        if opcode == Opcode.FOOTER:
            break
    closing = _peek(file, at, len(MCAP0_MAGIC) + 1)
    if closing != MCAP0_MAGIC:
        if MCAP0_MAGIC.startswith(closing):
            return Extent(offset, False, size)
        raise Damage(at, "it does not end as an MCAP file does")
    return Extent(offset, True, size, data_crc)


def _content(opcode: int, body: bytes, offset: int) -> bytes:
    """Return the records in a chunk, its CRC checked; nothing for the header, which is checked, too."""
    try:
        if opcode == Opcode.CHUNK:
            return _unpack(Chunk.read(_stream(body)), len(body), offset)
        profile = Header.read(_stream(body)).profile
    except (struct.error, ValueError, McapError, zstandard.ZstdError) as error:
        raise Damage(offset, _in_words(error)) from None
    if profile != PROFILE:
        raise Damage(offset, f"its profile is {profile!r}, a session's is {PROFILE!r}")
    return b""


def _unpack(chunk: Chunk, length: int, offset: int) -> bytes:
    if _CHUNK_HEAD.size + len(chunk.compression) + 8 + len(chunk.data) != length:
        raise Damage(offset, "a chunk's lengths contradict each other")
    if chunk.uncompressed_size > RECORD_LIMIT:
        raise Damage(offset, f"a chunk claims to hold {chunk.uncompressed_size} bytes")
    if chunk.compression == "zstd":
        claimed = zstandard.get_frame_parameters(chunk.data).content_size
        if claimed != chunk.uncompressed_size:
            raise Damage(offset, f"a chunk claims {chunk.uncompressed_size} bytes and packs {claimed}")
        unpacked: bytes = zstandard.decompress(chunk.data)
    elif chunk.compression == "":
        unpacked = chunk.data
    else:
        raise Damage(offset, f"a chunk is packed with {chunk.compression!r}, expected 'zstd'")
    crc = zlib.crc32(unpacked)
    if crc != chunk.uncompressed_crc:
        raise Damage(offset, f"CRC error: the chunk's is {crc:#010x}, {chunk.uncompressed_crc:#010x} was written")
    return unpacked


def _split(unpacked: bytes, offset: int, channels: dict[int, Channel]) -> Iterator[Entry]:
    """Give the messages among a chunk's records, and learn the channels."""
    at = 0
    while at < len(unpacked):
        try:
            opcode, length = _HEAD.unpack_from(unpacked, at)
            body = unpacked[at + _HEAD.size : at + _HEAD.size + length]
            if len(body) < length:
                raise Damage(offset, f"a record in the chunk claims {length} bytes")
            entry = _parse(opcode, body, offset, channels)
        except (struct.error, ValueError, McapError) as error:
            raise Damage(offset, _in_words(error)) from None
        at += _HEAD.size + length
        if entry is not None:
            yield entry


def _parse(opcode: int, body: bytes, offset: int, channels: dict[int, Channel]) -> Entry | None:
    if opcode == Opcode.CHANNEL:
        channel = Channel.read(_stream(body))
        channels[channel.id] = channel
        return None
    if opcode != Opcode.MESSAGE:
        raise Damage(offset, f"unknown record type {opcode:#04x} in the chunk")
    message = Message.read(_stream(body), len(body))
    known = channels.get(message.channel_id)
    if known is None:
        raise Damage(offset, f"a record names channel {message.channel_id}, which is not there")
    return Entry(known.topic, known.message_encoding, message.data, message.log_time, message.sequence, offset)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'it ends early'}"


def _check_torn_chunk(file: BinaryIO, offset: int, opcode: int, length: int) -> None:
    """Tell a chunk that was cut off from one whose length was damaged: a chunk states its length twice."""
    head = _peek(file, offset + _HEAD.size, _CHUNK_HEAD.size)
    if opcode != Opcode.CHUNK or len(head) < _CHUNK_HEAD.size:
        return
    *_, compression_length = _CHUNK_HEAD.unpack(head)
    if compression_length <= 4:
        inner = _peek(file, offset + _HEAD.size + _CHUNK_HEAD.size + compression_length, 8)
        if len(inner) < 8 or _CHUNK_HEAD.size + compression_length + 8 + struct.unpack("<Q", inner)[0] == length:
            return
    raise Damage(offset, f"a chunk claims {length} bytes and its lengths contradict each other")


def _is_blank(file: BinaryIO, offset: int, size: int) -> bool:
    file.seek(offset)
    while offset < size:
        block = file.read(2**20)
        if not block or block.count(0) != len(block):
            return False
        offset += len(block)
    return True


def _record_at(file: BinaryIO, offset: int) -> tuple[int, bytes]:
    """Read one record that `survey` has seen: its type and content."""
    opcode, length = _HEAD.unpack(_peek(file, offset, _HEAD.size))
    body = file.read(length)
    if len(body) < length:
        raise Damage(offset, "the file became shorter while it was read")
    return opcode, body


def _peek(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _stream(body: bytes) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(body))
