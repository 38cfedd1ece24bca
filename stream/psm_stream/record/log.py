"""The log of a session being written: MCAP, one ordered list of inputs and published messages."""

from __future__ import annotations

from typing import BinaryIO

from mcap.writer import CompressionType, IndexType, Writer

from psm_stream.record.codec import Record, encode
from psm_stream.wire.messages import Message

PROFILE = "psm-session"
CHUNK_BYTES = 2**20
"""A chunk is closed when it holds so much (the last record may go beyond), or by `flush`."""

INPUT_ENCODING = "msgpack"
MESSAGE_ENCODING = "psm-message"


class LogWriter:
    """Appends to a log file. One thread.

    Every record's `sequence` counts up by one over the whole log, so that a missing piece shows. No index is kept:
    the log is read in order, and an index would grow in memory for as long as the recording lasts.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._mcap = Writer(
            file,
            chunk_size=CHUNK_BYTES,
            compression=CompressionType.ZSTD,
            index_types=IndexType.NONE,
            enable_crcs=True,
            enable_data_crcs=True,
        )
        self._mcap.start(profile=PROFILE, library="psm-stream")
        self._channels: dict[str, int] = {}
        self._next_sequence = 0
        self._file = file
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
        self._mcap.flush()

    def finish(self) -> None:
        """Write what ends a whole log."""
        self._mcap.finish()
        self._file.flush()

    def _write(self, topic: str, encoding: str, body: bytes, log_ns: int) -> None:
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self._mcap.register_channel(topic, encoding, 0)
        sequence, self._next_sequence = self._next_sequence, (self._next_sequence + 1) % 2**32
        self._mcap.add_message(channel, log_ns, body, log_ns, sequence)
