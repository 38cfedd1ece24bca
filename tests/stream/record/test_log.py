"""A finished log is a good MCAP file to other programs, and writing one takes no more memory the longer it is."""

import io
import tracemalloc

from mcap.reader import NonSeekingReader, make_reader

from psm_stream.record.log import CHUNK_BYTES, LogWriter
from psm_stream.values import Marker
from psm_stream.wire.messages import Message


def test_mcap_s_own_readers_read_it_and_find_every_checksum_right():
    file = io.BytesIO()
    log = LogWriter(file)
    log.write_record(Marker("m", 1.0, "control"), 5_000)
    log.write_message(Message("log.info", b"head", b"payload"), 7_000)
    log.flush()
    log.write_message(Message("log.info", b"", b"x" * (CHUNK_BYTES + 1)), 6_000)
    log.write_message(Message("embedding.00", b"", b""), 9_000)
    log.finish()
    for make in (make_reader, NonSeekingReader):
        file.seek(0)
        reader = make(file, validate_crcs=True)
        read = [
            (channel.topic, channel.message_encoding, message.log_time, message.sequence, len(message.data))
            for _, channel, message in reader.iter_messages(log_time_order=False)
        ]
        assert read == [
            ("input.marker", "msgpack", 5_000, 0, read[0][4]),
            ("log.info", "psm-message", 7_000, 1, 4 + 4 + 7),
            ("log.info", "psm-message", 6_000, 2, 4 + CHUNK_BYTES + 1),
            ("embedding.00", "psm-message", 9_000, 3, 4),
        ]
    file.seek(0)
    summary = make_reader(file).get_summary()
    assert summary.statistics.message_count == 4
    assert summary.statistics.chunk_count == 3
    assert (summary.statistics.message_start_time, summary.statistics.message_end_time) == (5_000, 9_000)
    assert sorted(channel.topic for channel in summary.channels.values()) == [
        "embedding.00",
        "input.marker",
        "log.info",
    ]


def test_an_empty_log_is_one_too():
    file = io.BytesIO()
    LogWriter(file).finish()
    file.seek(0)
    assert list(make_reader(file, validate_crcs=True).iter_messages()) == []


class Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def write(self, data) -> int:
        return len(data)


def test_memory_does_not_grow_with_the_log():
    log = LogWriter(Nowhere())
    message = Message("log.info", b"head", b"payload")

    def write(chunks):
        for _ in range(chunks):
            log.write_message(message, 5_000)
            log.flush()

    write(100)
    tracemalloc.start()
    try:
        write(100)
        before, _ = tracemalloc.get_traced_memory()
        write(3000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 3000  # less than a byte for each chunk
