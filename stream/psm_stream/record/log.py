"""The log of a session being written: MCAP, one ordered list of inputs and published messages.

Written record by record and not with `mcap.writer`, which keeps an index entry of each chunk in memory for as long as
the recording lasts. Any MCAP reader reads it.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from typing import BinaryIO

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, DataEnd, Footer, Header, McapRecord, Statistics
from mcap.records import Message as LogRecord
from mcap.writer import MCAP0_MAGIC

from psm_stream.record.codec import Record, encode
from psm_stream.wire.messages import Message

PROFILE = "psm-session"
CHUNK_BYTES = 2**20
"""A chunk is closed when it holds so much (the last record may go beyond), or by `flush`."""

INPUT_ENCODING = "msgpack"
MESSAGE_ENCODING = "psm-message"

_ZSTD_LEVEL = 1
"""Level 3 saves 1 % and takes half as long again."""


class LogWriter:
    """Appends to a log file. One thread; its memory does not grow.

    Every record's `sequence` counts up by one over the whole log, so that a missing piece shows. There is no index:
    the log is read in order.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._crc = 0
        self._size = 0
        self._chunk = RecordBuilder()
        self._times_ns: list[int] = []
        self._pack = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self._channels: dict[str, Channel] = {}
        self._counts: Counter[int] = Counter()
        self._chunks = 0
        self._first_ns = self._last_ns = 0
        self._put(MCAP0_MAGIC)
        self._put_record(Header(profile=PROFILE, library="psm-stream"))
        file.flush()

    def write_record(self, record: Record, log_ns: int) -> None:
        """Append an input. log_ns: its own time, unix ns."""
        topic, body = encode(record)
        self._write(topic, INPUT_ENCODING, body, log_ns)

    def write_message(self, message: Message, log_ns: int) -> None:
        """Append a published message: the bytes that went over the wire."""
        self._write(message.topic, MESSAGE_ENCODING, message.framed(), log_ns)

    def flush(self) -> None:
        """Hand everything to the operating system: a killed process loses none of it."""
        self._close_chunk()
        self._file.flush()

    def finish(self) -> None:
        """Write what ends a whole log."""
        self._close_chunk()
        self._put_record(DataEnd(data_section_crc=self._crc))
        self._put_summary()
        self._put(MCAP0_MAGIC)
        self._file.flush()

    def _write(self, topic: str, encoding: str, body: bytes, log_ns: int) -> None:
        channel = self._channels.get(topic)
        if channel is None:
            channel = Channel(len(self._channels) + 1, topic, encoding, {}, 0)
            self._channels[topic] = channel
            channel.write(self._chunk)
        sequence = self._counts.total() % 2**32
        LogRecord(channel.id, log_ns, body, log_ns, sequence).write(self._chunk)
        self._counts[channel.id] += 1
        self._times_ns.append(log_ns)
        if self._chunk.count > CHUNK_BYTES:
            self._close_chunk()

    def _close_chunk(self) -> None:
        if not self._times_ns:
            return
        unpacked = self._chunk.end()
        first, last = min(self._times_ns), max(self._times_ns)
        self._put_record(Chunk("zstd", self._pack.compress(unpacked), last, first, zlib.crc32(unpacked), len(unpacked)))
        self._first_ns = min(self._first_ns, first) if self._chunks else first
        self._last_ns = max(self._last_ns, last)
        self._times_ns.clear()
        self._chunks += 1

    def _put_summary(self) -> None:
        """Say what is in the log, for tools that list MCAP files."""
        start = self._size
        summary = RecordBuilder()
        for channel in self._channels.values():
            channel.write(summary)
        Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=dict(self._counts),
            chunk_count=self._chunks,
            message_count=self._counts.total(),
            metadata_count=0,
            message_start_time=self._first_ns,
            message_end_time=self._last_ns,
            schema_count=0,
        ).write(summary)
        body = summary.end()
        footer_start = struct.pack("<BQQQ", Opcode.FOOTER, 8 + 8 + 4, start, 0)
        self._put(body)
        self._put_record(
            Footer(summary_start=start, summary_offset_start=0, summary_crc=zlib.crc32(body + footer_start))
        )

    def _put_record(self, record: McapRecord) -> None:
        builder = RecordBuilder()
        record.write(builder)
        self._put(builder.end())

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
