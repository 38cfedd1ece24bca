"""psm-watch: lines, JSON, filters, exit codes."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from psm_stream import client
from psm_stream.cli.watch import as_json, as_line, main
from psm_stream.config import WireSettings
from psm_stream.values import Marker, Notice
from psm_stream.wire.fake import FakeLive, fake_embedding
from psm_stream.wire.messages import LogLine, MessageBuilder
from psm_stream.wire.ports import open_sockets
from psm_stream.wire.schema import HEADER

# Ctrl-C as from a terminal, even where the tests run with it ignored
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from psm_stream.cli.watch import main
sys.exit(main())
"""


@pytest.fixture
def live():
    with FakeLive() as live:
        yield live


def test_prints_one_calm_line_per_message(live, capsys):
    assert main(["--connect", live.address, "--topic", "embedding", "--count", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:
        words = line.split()
        assert words[:2] == ["embedding.00", "frame"]
        assert float(words[3]) >= 0  # age, ms
        assert words[4:6] == ["ms", "length"]
        assert words[-2:] == ["model", "0123456789ab"]
        assert len(line) < 120


def test_prints_json_with_every_key_and_the_payload(live, capsys):
    assert main(["--connect", str(live.ports.control), "--topic", "embedding", "--json", "--count", "2"]) == 0
    one, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert list(one) == [key.name for key in HEADER] + ["payload", "age_ms", "lost"]
    assert one["payload"] == fake_embedding(one["frame_index"], 0.0).vector.tolist()
    assert one["cluster_strength"] is None
    assert one["age_ms"] > 0
    assert (one["lost"], other["seq"]) == (0, one["seq"] + 1)


def test_topics_are_prefixes_and_may_be_several(live, capsys):
    arguments = ["--connect", live.address, "--topic", "heart", "--topic", "stats.pipe", "--json", "--count", "6"]
    assert main(arguments) == 0
    topics = {json.loads(line)["topic"] for line in capsys.readouterr().out.splitlines()}
    assert topics == {"heartbeat.psm", "stats.pipeline"}


def test_every_kind_of_message_has_a_line():
    builder = MessageBuilder("0" * 32, "msgpack", lambda: 1.0)

    def line(message, age_ms=float("nan")):
        header = client.decode_header(message.header)
        value = client.decode_payload(header, message.payload)
        received = client.ClientMessage(message.topic, header, value, 2.0)
        assert json.loads(as_json(received, age_ms, 0))["topic"] == message.topic
        return " ".join(as_line(received, age_ms).split())

    embedding, face = builder.build(fake_embedding(7, 1.0))
    assert line(embedding, 8.04).startswith("embedding.00 frame 7 8.0 ms length ")
    assert line(face, 8.04) == "face.00 frame 7 8.0 ms confidence 0.90 box 0 0 100 100 px"
    assert line(builder.marker(Marker("a\nb", 1.0, "remote"))) == "marker.remote a\\nb"
    assert line(builder.notice(Notice("ready", 1.0, {"device": "cpu"}))) == 'notify.ready device "cpu"'
    done = {"checkpoint_id": "ba98", "model_id": "0123", "seconds": 61.23456, "loss_after": 0.123456, "epochs": 10}
    assert line(
        builder.notice(Notice("adapt.done", 1.0, {**done, "figures": {"rank": 11.0}, "retry_s": math.nan}))
    ) == ('notify.adapt.done model_id "0123" checkpoint_id "ba98" seconds 61.23 loss_after 0.1235 epochs 10')
    swapped = Notice("model.swapped", 1.0, {"old": "a", "new": "b", "model_epoch": 2, "frame_index": 5})
    assert line(builder.notice(swapped)) == 'notify.model.swapped frame 5 model_epoch 2 old "a" new "b"'
    found = Notice("face.found", 1.0, {"frame_index": 3, "face_id": 1})
    assert line(builder.notice(found)) == "notify.face.found frame 3 face 1"
    split = Notice("cluster.split", 1.0, {"cluster": 0, "cluster_version": 2, "others": [7], "points": 64})
    assert line(builder.notice(split)) == "notify.cluster.split cluster 0 cluster_version 2 others [7] points 64"
    fitted = Notice("cluster.fitted", 1.0, {"model_id": "0123", "cluster_version": 2, "clusters": [0, 7]})
    assert line(builder.notice(fitted)) == 'notify.cluster.fitted cluster_version 2 model_id "0123" clusters [0, 7]'
    assert line(builder.heartbeat()) == "heartbeat.psm"
    assert line(builder.log(LogLine("warning", "hot", 1.0))) == "log.warning hot"
    summary = {
        "fps": 29.97,
        "frames": {"processed": 50, "dropped": {"slot": 2}},
        "latency_ms": {"capture_to_publish": {"p95": 7.25}},
    }
    assert line(builder.stats(summary)) == "stats.pipeline fps 30.0 processed 50 dropped 2 p95 ms 7.2"
    assert line(builder.stats({})) == "stats.pipeline dropped 0"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--topc", "x"], "did you mean --topic?"),
        (["--topic", "embeding"], "did you mean embedding.?"),
        (["--count", "0"], "--count must be at least 1"),
        (["--count", "many"], "--count"),
        (["--timeout", "-1"], "--timeout must be"),
        (["--timeout", "nan"], "--timeout must be"),
        (["--connect", "nowhere"], "'nowhere' is no address; give tcp://host:port"),
    ],
)
def test_wrong_arguments_are_one_line_and_2(arguments, says, capsys):
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert says in error
    assert error.count("\n") == 1


def test_nobody_there_is_one_line_and_1(capsys):
    with closing(open_sockets(WireSettings(control_port="auto"))) as silent:
        port = silent.ports.control
        assert main(["--connect", f"localhost:{port}", "--timeout", "0.05"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"error: nobody answers at tcp://localhost:{port} within 0.05 s; start psm-stream")
    assert error.count("\n") == 1


def test_no_message_in_time_is_one_line_and_1(live, capsys):
    assert main(["--connect", live.address, "--topic", "cluster.", "--timeout", "0.1"]) == 1
    assert "no message within 0.1 s; check --topic" in capsys.readouterr().err


def watch(live: FakeLive, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--connect", live.address, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name == "nt", reason="signals differ on Windows")
def test_ctrl_c_is_130_without_a_word(live):
    with watch(live) as process:
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert (process.returncode, error) == (130, "")


@pytest.mark.skipif(os.name == "nt", reason="pipes differ on Windows")
def test_a_reader_that_has_seen_enough_ends_it_quietly(live):
    with watch(live, "--json") as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
