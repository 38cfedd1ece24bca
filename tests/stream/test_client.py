"""The client: alone in its environment, never stale, counting what it lost, surviving what it cannot read."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

import psm_stream.client
from psm_stream.client import (
    ClientError,
    Control,
    LatestReader,
    Malformed,
    Markers,
    NoAnswer,
    NotAnArray,
    Refused,
    Subscriber,
    decode_header,
    decode_payload,
    full_address,
)
from psm_stream.config import WireSettings
from psm_stream.values import Marker, NoFace, Notice, Stamp
from psm_stream.wire.fake import FakeLive, fake_embedding
from psm_stream.wire.messages import MessageBuilder
from psm_stream.wire.ports import open_sockets
from psm_stream.wire.publisher import Publisher

PATIENCE_S = 20.0
FOLDER = Path(psm_stream.client.__file__).parent


@pytest.fixture
def live():
    with FakeLive() as live:
        yield live


class Sender:
    """A publisher under the test's control, and no service beside it."""

    def __init__(self, session: str = "0" * 32, port: int | str = "auto", header: str = "msgpack") -> None:
        self.sockets = open_sockets(WireSettings(control_port=port))
        self.publisher = Publisher(self.sockets)
        self.builder = MessageBuilder(session, header, time.monotonic)
        self.address = f"tcp://127.0.0.1:{self.sockets.ports.publish}"
        self.sent = 0

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.publisher.send(self.builder.embedding(fake_embedding(self.sent, time.monotonic())))
            self.sent += 1

    def raw(self, *parts: bytes) -> None:
        self.sockets.publish.send_multipart(parts)

    def send_until_received(self, subscriber: Subscriber):
        """A subscription takes effect at some later time; only a received message proves that it did."""
        message = None
        while message is None:
            self.send()
            message = subscriber.receive(0.01)
        return self.receive_rest(subscriber, message)

    def receive_rest(self, subscriber: Subscriber, message=None):
        """Take all that was sent, and return the last."""
        while message is None or message.header["frame_index"] < self.sent - 1:
            message = subscriber.receive(PATIENCE_S)
        return message

    def close(self) -> None:
        self.sockets.close()


@pytest.fixture
def sender():
    with closing(Sender()) as sender:
        yield sender


# environment


BLOCK = """
import builtins, sys
allowed = {"zmq", "msgpack", "numpy"} | set(sys.stdlib_module_names)
real = builtins.__import__
def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    root = name.partition(".")[0]
    # numpy, zmq and msgpack may try their own optional companions; what counts is who asks
    asker = (globals or {}).get("__name__", "").partition(".")[0]
    if level == 0 and root not in allowed and root != PACKAGE and asker not in {"zmq", "msgpack", "numpy"}:
        raise ImportError(f"blocked: {name} for {asker}")
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = guarded
"""


def in_subprocess(code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_works_where_only_zmq_msgpack_and_numpy_can_be_imported(live, tmp_path):
    in_subprocess(
        "PACKAGE = 'psm_stream'"
        + BLOCK
        + "from psm_stream.client import Subscriber\n"
        + f"with Subscriber({live.address!r}, ['embedding.']) as subscriber:\n"
        + "    assert subscriber.receive(20).array.shape == (256,)\n"
        + "loaded = {name for name in sys.modules if name.startswith('psm_stream.') and 'client' not in name}\n"
        + "assert not loaded, loaded\n",
        tmp_path,
    )


def test_the_folder_can_be_copied_elsewhere_and_works_there(live, tmp_path):
    copy = tmp_path / "psm_client"
    copy.mkdir()
    for file in FOLDER.glob("*.py"):
        (copy / file.name).write_bytes(file.read_bytes())
    in_subprocess(
        "PACKAGE = 'psm_client'"
        + BLOCK
        + "sys.path.insert(0, '.')\nfrom psm_client import LatestReader\n"
        + f"with LatestReader({live.address!r}) as reader:\n    assert reader.read(20).array.shape == (256,)\n",
        tmp_path,
    )


def test_exports_every_public_name_once():
    names = psm_stream.client.__all__
    assert sorted(set(names)) == sorted(names)
    assert all(hasattr(psm_stream.client, name) for name in names)


# subscribing


@pytest.mark.parametrize("header", ["msgpack", "json"])
def test_receives_what_was_published_whatever_the_format_of_the_header(header):
    settings = WireSettings(control_port="auto", header=header)
    with FakeLive(settings) as live, Subscriber(live.address, ["embedding."]) as subscriber:
        message = subscriber.receive(PATIENCE_S)
    index = message.header["frame_index"]
    assert message.topic == "embedding.00"
    assert message.array.tolist() == fake_embedding(index, 0.0).vector.tolist()
    assert not message.array.flags.writeable
    assert math.isnan(message.header["cluster_strength"])
    assert message.header["t_capture"] <= message.header["t_publish"] <= message.t_receive


def test_iterates_over_the_chosen_topics_without_a_gap(live):
    with Subscriber(live.address, ["embedding.", "heartbeat."]) as subscriber:
        messages = [message for message, _ in zip(subscriber, range(50), strict=False)]
    assert {message.topic for message in messages} == {"embedding.00", "heartbeat.psm"}
    indices = [message.header["frame_index"] for message in messages if message.topic == "embedding.00"]
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert subscriber.lost == 0


def test_one_topic_may_be_given_as_text(live):
    with Subscriber(live.address, "stats.") as subscriber:
        assert subscriber.receive(PATIENCE_S).topic == "stats.pipeline"


def test_each_kind_of_payload_has_its_value(live):
    with Subscriber(live.address) as subscriber:
        while subscriber.receive(PATIENCE_S) is None:
            pass
        live.put(Marker("Ton ä", 1.0, "remote", {"n": 1}))
        live.put(Notice("ready", 2.0, {"device": "cpu"}))
        found = {}
        while not {"marker.remote", "notify.ready", "stats.pipeline"} <= set(found):
            message = subscriber.receive(PATIENCE_S)
            found[message.topic] = message
    assert found["marker.remote"].value == "Ton ä"
    assert found["marker.remote"].header["fields"] == {"n": 1}
    assert found["notify.ready"].value is None
    assert found["notify.ready"].header["device"] == "cpu"
    assert found["stats.pipeline"].value["fps"] is None
    assert found["face.00"].array.shape == (478, 2)
    with pytest.raises(NotAnArray, match=r"marker\.remote is utf8"):
        _ = found["marker.remote"].array


def test_no_message_in_time_is_none(sender):
    with Subscriber(publish_address=sender.address) as subscriber:
        assert subscriber.receive(0.0) is None
        assert subscriber.latest(0.0) is None


def test_counts_what_was_lost_on_each_topic(sender):
    with Subscriber(publish_address=sender.address) as subscriber:
        sender.send_until_received(subscriber)
        for _ in range(7):
            sender.builder.embedding(fake_embedding(0, 0.0))  # numbered, and never sent
        sender.builder.heartbeat()
        sender.publisher.send(sender.builder.heartbeat())
        sender.send()
        sender.receive_rest(subscriber)
        assert subscriber.lost == 7  # the first heartbeat it ever saw was number 1: nothing to compare with
        assert subscriber.lost_by_topic == {"embedding.00": 7, "heartbeat.psm": 0}


def test_a_slow_reader_sees_its_loss(sender):
    with Subscriber(publish_address=sender.address, queue=20) as subscriber:
        first = sender.send_until_received(subscriber)
        sender.send(20_000)
        received = 1
        while subscriber.receive(0.2) is not None:
            received += 1
        sender.send_until_received(subscriber)
        assert subscriber.lost > 0
        assert received + subscriber.lost <= sender.sent - first.header["seq"]


def test_latest_is_newer_than_all_that_was_sent_before_the_call(sender):
    """A fast sender and a reader that stays away: first briefly, then until its queue overflows."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.0003):
            sender.send()

    with Subscriber(publish_address=sender.address, queue=2000) as subscriber:
        sender.send_until_received(subscriber)
        thread = threading.Thread(target=send)
        thread.start()
        try:
            for away in (500, 900, 4000, 600):
                until = sender.sent + away
                while sender.sent < until:
                    assert not stop.wait(0.001)
                before = sender.sent
                message = subscriber.latest(PATIENCE_S)
                # what was sent in the last moments may still be under way; what the reader missed is not returned
                assert message.header["seq"] > before - 300
        finally:
            stop.set()
            thread.join()
        assert subscriber.skipped > 0


def test_latest_returns_nothing_rather_than_something_old(sender):
    with Subscriber(publish_address=sender.address, queue=20) as subscriber:
        sender.send_until_received(subscriber)
        sender.send(30_000)
        while (message := subscriber.latest(0.05)) is not None:  # nothing, once the overflow is thrown away
            assert message.header["seq"] == sender.sent - 1
        fresh = sender.send_until_received(subscriber)
        assert fresh.header["seq"] >= 30_000


def test_latest_drains_a_queue_that_never_filled_up(sender):
    with Subscriber(publish_address=sender.address) as subscriber:
        sender.send_until_received(subscriber)
        sender.send(1000)
        seq = -1
        while seq < sender.sent - 1:
            message = subscriber.latest(PATIENCE_S)
            assert message.header["seq"] > seq
            seq = message.header["seq"]
        assert subscriber.lost == 0


MALFORMED = {
    "one part": (b"embedding.00",),
    "two parts": (b"embedding.00", msgpack.packb({})),
    "four parts": (b"embedding.00", b"", b"", b""),
    "no header": (b"embedding.00", b"", b""),
    "bytes": (b"embedding.00", b"\xff\xfe", b""),
    "number": (b"embedding.00", b"\x01", b""),
    "JSON cut short": (b"embedding.00", b'{"schema": 1', b""),
    "deep JSON": (b"embedding.00", b'{"a":' + b"[" * 100_000, b""),
    "deep msgpack": (b"embedding.00", b"\x91" * 100_000, b""),
    "empty map": (b"embedding.00", b"\x80", b""),
}


def good_header(**changes: object) -> dict:
    message = MessageBuilder("0" * 32, "msgpack", time.monotonic).heartbeat()
    return msgpack.unpackb(message.header) | changes


@pytest.mark.parametrize("parts", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_message_is_counted_and_left_out(sender, parts):
    with Subscriber(publish_address=sender.address) as subscriber:
        sender.send_until_received(subscriber)
        sender.raw(*parts)
        sender.send()
        sender.receive_rest(subscriber)
        assert subscriber.malformed == 1
        assert subscriber.lost == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"schema": None},
        {"seq": "1"},
        {"topic": 5},
        {"shape": "256"},
        {"frame_index": None},
        {"t_capture": "now"},
        {"dtype": 4},
    ],
)
def test_a_header_with_a_wrong_key_is_malformed(changes):
    with pytest.raises(Malformed):
        decode_header(msgpack.packb(good_header(**changes)))


@pytest.mark.parametrize("key", sorted(good_header()))
def test_a_header_that_lacks_a_key_is_malformed(key):
    header = good_header()
    del header[key]
    with pytest.raises(Malformed):
        decode_header(msgpack.packb(header))


def test_a_newer_service_may_add_keys():
    assert decode_header(msgpack.packb(good_header(new=[1, 2])))["new"] == [1, 2]


def test_missing_floats_are_nan_in_json_too():
    header = decode_header(MessageBuilder("0" * 32, "json", time.monotonic).heartbeat().header)
    assert math.isnan(header["t_capture"])


@pytest.mark.parametrize(
    ("dtype", "shape", "payload"),
    [
        ("<f4", [4], b"\x00" * 12),
        ("<f4", [-1], b"\x00" * 12),
        ("<f4", [True], b"\x00" * 4),
        ("<f4", [2**63, 2**63], b""),
        ("<f4", ["4"], b"\x00" * 16),
        ("O", [1], b"\x00" * 8),
        ("<U4", [1], b"\x00" * 16),
        (">f4", [1], b"\x00" * 4),
        ("f4,f4", [1], b"\x00" * 8),
        ("", [], b"x"),
        ("utf8", [1], b"\xff"),
        ("json", [1], b"{"),
        ("json", [9], b"[" * 100_000),
    ],
)
def test_a_payload_that_is_not_what_the_header_says_is_malformed(dtype, shape, payload):
    with pytest.raises(Malformed):
        decode_payload({"dtype": dtype, "shape": shape}, payload)


@given(st.binary(max_size=100))
def test_any_header_is_read_or_malformed(data):
    with pytest.raises(Malformed):
        decode_header(data)


@given(st.text(max_size=4), st.lists(st.integers(), max_size=3), st.binary(max_size=64))
def test_any_payload_is_read_or_malformed(dtype, shape, payload):
    try:
        decode_payload({"dtype": dtype, "shape": shape}, payload)
    except Malformed:
        return


def test_goes_on_when_the_service_restarts_and_counts_no_loss_across_sessions():
    with FakeLive() as live:
        port = live.ports.control
        subscriber = Subscriber(live.address, ["embedding."])
        first = subscriber.receive(PATIENCE_S)
    with subscriber, FakeLive(WireSettings(control_port=port)) as live:
        while (message := subscriber.receive(PATIENCE_S)).header["session"] == first.header["session"]:
            pass
        assert message.header["session"] == live.session
        assert subscriber.lost == 0


def test_a_direct_address_needs_no_service_yet():
    with closing(Sender()) as sender:
        port = sender.sockets.ports.control
    with Subscriber(publish_address=f"127.0.0.1:{port + 1}") as subscriber, closing(Sender(port=port)) as sender:
        sender.send_until_received(subscriber)


# the latest port


def test_the_latest_reader_gets_one_frame_at_a_time_and_only_newer_ones(live):
    with LatestReader(live.address) as reader:
        indices = [reader.read(PATIENCE_S).header["frame_index"] for _ in range(20)]
    assert indices == sorted(set(indices))


def test_the_latest_reader_passes_over_all_that_it_missed(sender):
    with LatestReader(latest_address=f"127.0.0.1:{sender.sockets.ports.latest}") as reader:
        message = None
        while message is None:
            sender.publisher.send_latest(sender.builder.latest(fake_embedding(0, 1.0)))
            message = reader.read(0.01)
        for index in range(1, 1000):
            sender.publisher.send_latest(sender.builder.latest(fake_embedding(index, 1.0)))
        read = 0
        while message.header["frame_index"] < 999:
            newer = reader.read(0.2)
            if newer is None:  # ZeroMQ's conflating pipe may keep one until the next wakes its reader
                sender.publisher.send_latest(sender.builder.latest(fake_embedding(999, 1.0)))
                continue
            message, read = newer, read + 1
        assert read < 100
        assert reader.read(0.0) is None


def test_a_frame_without_a_face_is_told_apart_on_latest(sender):
    with LatestReader(latest_address=f"127.0.0.1:{sender.sockets.ports.latest}") as reader:
        message = None
        while message is None:
            no_face = NoFace(Stamp(5, 1.0), "nobody there")
            sender.publisher.send_latest(sender.builder.latest_without_face(no_face, 256, "0123456789ab", 0))
            message = reader.read(0.01)
    assert (message.header["face_id"], message.header["reason"]) == (-1, "nobody there")
    assert message.array.shape == (256,)
    assert np.isnan(message.array).all()


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff\xff\xff\xff", b"\x02\x00\x00\x00{}", b"\x00" * 50])
def test_a_malformed_latest_is_counted_and_left_out(sender, data):
    with LatestReader(latest_address=f"127.0.0.1:{sender.sockets.ports.latest}") as reader:
        while reader.malformed == 0:
            sender.sockets.latest.send(data)
            assert reader.read(0.01) is None


# control and markers


def test_asks_and_commands(live):
    with Control(live.address) as control:
        assert control.send("FREEZE") == "OK FREEZE"
        assert control.send("nonsense") == "ERROR unknown command"
        assert control.info()["session"] == live.session
        assert control.status()["frame_index"] >= -1
        with pytest.raises(Refused, match="C: ERROR adaptation"):
            control.ask("C")
    assert [order.command for order in live.orders] == ["FREEZE", "C"]


def test_a_marker_returns_when_it_arrived(live):
    with Control(live.address) as control:
        before = time.monotonic()
        t = control.marker("go now")
        assert before <= t <= time.monotonic()
        control.send("FREEZE")  # answered after the marker was taken
        with pytest.raises(Refused, match="label"):
            control.marker(" ")
    assert [(marker.label, marker.t, marker.origin) for marker in live.markers] == [("go now", t, "control")]


def test_the_offset_on_one_machine_is_zero_within_its_own_bound(live):
    with Control(live.address) as control:
        offset = control.offset()
    assert offset.round_trip_s > 0
    assert abs(offset.offset_s) <= offset.round_trip_s / 2 + 1e-6  # 1e-6: the clock's resolution


def test_markers_need_no_answer_and_arrive_before_close_returns(live):
    with Subscriber(live.address, ["marker."]) as subscriber:
        seen = []
        while not seen:  # until the subscription holds
            with Markers(live.address) as markers:
                markers.send("start", t=12.5, trial=3)
            message = subscriber.receive(0.05)
            seen += [message] if message else []
        with Markers(live.address) as markers:
            markers.send("once")
        while seen[-1].value != "once":
            seen.append(subscriber.receive(PATIENCE_S))
    assert seen[0].value == "start"
    assert seen[0].header["fields"] == {"t": 12.5, "trial": 3}


def test_nobody_there_is_one_clear_line_and_control_can_ask_again(sender):
    port = sender.sockets.ports.control  # bound, and nobody reads it
    for make in (Subscriber, LatestReader, Markers):
        with pytest.raises(NoAnswer, match=f"nobody answers at tcp://127.0.0.1:{port} within 0.05 s; start"):
            make(f"127.0.0.1:{port}", timeout_s=0.05)
    sender.close()
    with Control(str(port), timeout_s=0.05) as control:
        with pytest.raises(NoAnswer):
            control.time()
        with FakeLive(WireSettings(control_port=port)):
            for _ in range(200):
                try:
                    assert control.time() > 0
                    break
                except NoAnswer:
                    continue
            else:
                pytest.fail("control never recovered")


@pytest.mark.parametrize(
    ("reply", "match"), [(b"{}", "schema None"), (b'{"schema": 2}', "update the older"), (b"hi", "psm-stream?")]
)
def test_a_service_that_is_not_ours_is_named(reply, match):
    with zmq.Context() as context, context.socket(zmq.REP) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            other.recv()
            other.send(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ClientError, match=match.replace("?", r"\?")):
            Subscriber(f"127.0.0.1:{port}")
        thread.join()


@pytest.mark.parametrize(
    ("address", "full"),
    [
        ("50120", "tcp://127.0.0.1:50120"),
        ("lab-pc.local:50120", "tcp://lab-pc.local:50120"),
        ("tcp://10.0.0.2:1", "tcp://10.0.0.2:1"),
        ("tcp://[::1]:50120", "tcp://[::1]:50120"),
    ],
)
def test_addresses(address, full):
    assert full_address(address) == full


@pytest.mark.parametrize(
    "address", ["", "tcp://", "host", "host:", "host:0", "host:65536", "udp://a:1", "a b:1", "a:1/x"]
)
def test_wrong_addresses_are_errors(address):
    with pytest.raises(ClientError, match="is no address; give"):
        full_address(address)
    if address:
        with pytest.raises(ClientError, match="is no address; give"):
            Subscriber(publish_address=address)


def test_closing_twice_is_closing_once(live):
    for thing in (Subscriber(live.address), LatestReader(live.address), Control(live.address), Markers(live.address)):
        thing.close()
        thing.close()


def test_the_answer_to_schema_names_every_key_of_a_header(live):
    with Control(live.address) as control, Subscriber(live.address, "embedding.") as subscriber:
        schema = json.loads(control.ask("SCHEMA"))
        message = subscriber.receive(PATIENCE_S)
    assert [key["name"] for key in schema["header"]] == list(message.header)
