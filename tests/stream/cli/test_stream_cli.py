"""The main job as a user runs it: real processes, real sockets, the demo."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq
from tests.stream.cli.running import Running, balanced, installed, run, tool

from psm_stream.bundle import general_bundle
from psm_stream.client import Control, LatestReader, Markers, Subscriber
from psm_stream.faces import read_snapshot

Start = Callable[..., Running]


def test_demo_at_the_fast_pace_loses_nothing(tmp_path: Path) -> None:
    outcome = run(tmp_path, "--source", "demo", "--pace", "fast", "--frames", "90")
    assert outcome.code == 0
    frames = outcome.summary["frames"]
    assert frames == {"captured": 90, "processed": 90, "no_face": 0, "dropped": {}}
    assert outcome.summary["published"]["embedding"] == 90
    assert outcome.summary["exit"] == 0
    assert outcome.summary["providers"] == ["CPUExecutionProvider"] or "CUDA" in outcome.summary["providers"][0]
    assert "UNTRAINED" in outcome.stderr or outcome.summary["trained"]


def test_a_subscriber_receives_embeddings_with_time_stamps_and_truth(start: Start) -> None:
    running = start("--source", "demo")
    with Subscriber(running.address(), ["embedding.", "marker.source", "stats."]) as subscriber:
        messages = list(itertools.islice(subscriber, 120))
    outcome = running.end(signal.SIGINT)
    embeddings = [message for message in messages if message.topic == "embedding.00"]
    truth = {
        message.header["fields"]["frame_index"]: message for message in messages if message.topic == "marker.source"
    }
    assert len(embeddings) >= 50
    for message in embeddings:
        header = message.header
        assert message.array.shape == (256,)
        assert message.array.dtype == np.dtype("<f4")
        assert header["t_capture"] < header["t_publish"]
        assert header["model_id"] == outcome.summary["model_ids"][0]
        assert header["cluster"] == -1
    seen = [message.header["frame_index"] for message in embeddings]
    assert seen == sorted(set(seen))
    assert len(truth.keys() & set(seen)) >= 45  # each frame's true expression travels beside its embedding
    stats = [message.value for message in messages if message.topic == "stats.pipeline"]
    assert stats
    assert all(balanced(one) for one in stats)
    assert outcome.code == 130
    assert balanced(outcome.summary)


def test_live_gaps_in_the_index_are_the_dropped_frames(start: Start) -> None:
    fps = "400"  # more than the pipeline can take
    running = start("--source", "demo", "--source.fps", fps, "--duration", "3", "--adapt", "off")
    indices = []
    with Subscriber(running.address(), ["embedding."]) as subscriber:
        while (message := subscriber.receive(2.0)) is not None:
            indices.append(message.header["frame_index"])
        lost = subscriber.lost
    outcome = running.end()
    assert outcome.code == 0
    assert balanced(outcome.summary)
    assert outcome.summary["frames"]["dropped"]["slot"] > 0
    assert lost == 0
    assert (np.diff(indices) >= 1).all()
    assert outcome.summary["frames"]["captured"] >= indices[-1]


def test_latest_is_fresh_for_a_slow_reader(start: Start) -> None:
    running = start("--source", "demo")
    address = running.address()
    with LatestReader(address) as latest, Control(address) as control:
        assert latest.read(10.0) is not None
        for _ in range(5):
            status = json.loads(control.send("STATUS"))
            message = latest.read(10.0)
            assert message is not None
            assert message.header["t_capture"] >= status["t"] - 0.5
    running.end(signal.SIGINT)


def test_control_orders(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    running = start("--source", "demo", "--adapt", "off")
    with Control(running.address()) as control, Subscriber(running.address(), ["marker.", "embedding."]) as subscriber:
        assert subscriber.receive(10.0) is not None
        assert control.send("FREEZE") == "OK"
        assert control.send("REVERT").startswith("ERROR frozen")
        assert control.send("THAW") == "OK"
        assert control.send("REVERT") == "OK the general encoder runs already"
        assert control.send("C") == "ERROR adaptation is off: as asked"
        assert control.send("c") == "ERROR nothing is being adapted"
        assert control.send("nonsense") == "ERROR unknown command"
        assert control.send("r") == "ERROR nothing is being recorded"
        assert control.send("A trial 3").startswith("OK")
        marker = next(message for message in subscriber if message.topic == "marker.control")
        assert marker.header["label"] == "trial 3"
        answer = control.send("SNAPSHOT")
        assert answer.startswith("OK ")
        assert len(read_snapshot(Path(answer[3:]))["crops"]) >= 1
        assert control.send("QUIT") == "OK"
    outcome = running.end()
    assert (outcome.code, outcome.summary["exit_reason"]) == (0, "asked to quit")


def test_markers_from_outside_are_stamped_and_published(start: Start) -> None:
    running = start("--source", "demo")
    address = running.address()
    with Subscriber(address, ["marker.remote"]) as subscriber, Markers(address) as markers, Control(address) as control:
        message = None
        while message is None:  # until the subscription has reached the publisher
            markers.send("stimulus on", trial=7)
            message = subscriber.receive(0.2)
        assert message.header["label"] == "stimulus on"
        assert message.header["fields"]["trial"] == 7
        assert 0 <= control.time() - message.header["t_marker"] < 30
    running.end(signal.SIGINT)


@pytest.mark.parametrize("when", ["starting", "running"])
def test_an_interrupt_ends_it_cleanly(start: Start, when: str) -> None:
    running = start("--source", "demo")
    if when == "running":
        running.address()
    outcome = running.end(signal.SIGINT)
    assert outcome.code in ((130,) if when == "running" else (130, -signal.SIGINT))
    assert "Traceback" not in outcome.stderr or when == "starting"


def test_terminate_ends_it_cleanly(start: Start) -> None:
    running = start("--source", "demo")
    running.address()
    outcome = running.end(signal.SIGTERM)
    assert outcome.code == 143
    assert balanced(outcome.summary)


def test_a_recorded_run_verifies(start: Start, tmp_path: Path) -> None:
    running = start("--source", "demo", "--pace", "fast", "--frames", "60", "--record", str(tmp_path / "sessions"))
    assert running.end().code == 0
    (session,) = (tmp_path / "sessions").glob("*/001")
    verified = tool("replay", str(session), "--verify")
    assert verified.returncode == 0, verified.stderr
    assert "60" in verified.stdout


def test_recording_by_order_twice_in_one_run(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(f"record:\n  root: {tmp_path / 'sessions'}\n")
    running = start("--source", "demo", "--frames", "100000", "--config", str(config))
    with Control(running.address()) as control, Subscriber(running.address(), ["embedding."]) as subscriber:
        folders = [Path(control.send("r")[3:])]
        for name in ("first", "second one"):
            folders.append(Path(control.send(f"R {name}")[3:]))
            assert control.send("R").startswith("ERROR already recording")
            assert len(list(itertools.islice(subscriber, 10))) == 10
            assert control.send("r") == f"OK {folders[-1]}"
    assert running.end(signal.SIGINT).code == 130
    assert len(set(folders)) == 3
    for folder in folders:
        verified = tool("replay", str(folder), "--verify")
        assert verified.returncode == 0, verified.stderr
    assert json.loads((folders[2] / "info.json").read_text())["name"] == "second one"


def test_quiet_says_nothing(tmp_path: Path) -> None:
    outcome = run(tmp_path, "--source", "demo", "--pace", "fast", "--frames", "5", "--quiet", "--control-port", "auto")
    assert (outcome.code, outcome.stderr) == (0, "")


def test_json_headers_for_clients_without_msgpack(start: Start) -> None:
    running = start("--source", "demo", "--header", "json")
    with Control(running.address()) as control:
        port = int(control.send("PUB_PORT"))
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.connect(f"tcp://127.0.0.1:{port}")
        subscriber.subscribe("embedding.")
        topic, header, payload = subscriber.recv_multipart()
    assert topic == b"embedding.00"
    assert json.loads(header)["shape"] == [256]
    assert len(payload) == 1024
    running.end(signal.SIGINT)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--sorce", "demo"], 2, "unknown option '--sorce'; did you mean --source?"),
        (["--source.pce", "fast"], 2, "unknown option '--source.pce'; did you mean --source.pace?"),
        (["--pace", "slow"], 2, "'source.pace': input should be 'live' or 'fast'"),
        (["--camera", "0", "--source", "demo"], 2, "--camera and --source exclude each other"),
        (["--adapt", "sometimes"], 2, "'adapt': input should be 'auto', 'manual' or 'off'"),
        (["--adapt", "auto", "--adaptation.recipe", "none.yaml"], 2, "adaptation.recipe none.yaml: no such file"),
        (["--adaptation.every", "9"], 2, "unknown option '--adaptation.every'; did you mean --adaptation.every_s?"),
        (["--config", "missing.yaml"], 2, "config file missing.yaml"),
        (["--source", "missing.mp4"], 1, "missing.mp4"),
        (["--camera", "63"], 1, "camera 63"),
        (["--rtsp", "rtsp://user:secret@127.0.0.1:9/x"], 1, "rtsp://"),
        (["--model", "missing"], 1, "missing"),
        (["--device", "tensorrt"], 1, "tensorrt"),
        (["--record", "/proc/nowhere"], 1, "/proc/nowhere"),
        (["--bind", "not-an-address"], 2, "wire.bind"),
        (["--aligner.model", "none.task"], 1, "none.task"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(tmp_path: Path, options: list[str], code: int, says: str) -> None:
    outcome = run(tmp_path, "--quiet", *options)
    assert outcome.code == code, outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    assert says in outcome.stderr
    assert "secret" not in outcome.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        outcome = run(tmp_path, "--quiet", "--source", "demo", "--control-port", str(port))
    assert outcome.code == 1
    assert f"port {port}" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_a_folder_of_images_loses_none(tmp_path: Path) -> None:
    for n in range(12):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((480, 640, 3), 90 + n, np.uint8))
    frames = run(tmp_path, "--quiet", "--source", str(tmp_path)).summary["frames"]
    assert (frames["captured"], frames["processed"]) == (12, 12)


@pytest.mark.parametrize("options", [["--source", "nosuch.mp4"], ["--rtsp", "rtsp://127.0.0.1:9/x"], ["--source", ""]])
def test_a_source_that_is_not_there_never_gets_ready(tmp_path: Path, options: list[str]) -> None:
    outcome = run(tmp_path, *options, "--record", str(tmp_path / "sessions"))
    assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    assert list((tmp_path / "sessions").glob("*/*")) == []


def test_no_face_in_the_whole_run_is_told(tmp_path: Path) -> None:
    for n in range(3):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((120, 160, 3), 90 + n, np.uint8))
    outcome = run(tmp_path, "--quiet", "--source", str(tmp_path), "--pace", "fast")
    assert outcome.code == 1
    assert outcome.summary["frames"]["no_face"] == 3
    assert outcome.errors == [line for line in outcome.stderr.splitlines() if "no face in any of the 3 frames" in line]


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00" * 5000])
def test_a_corrupt_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.mp4").write_bytes(content)
    outcome = run(tmp_path, "--quiet", "--source", str(tmp_path / "broken.mp4"))
    assert outcome.code == 1
    assert len(outcome.stderr.splitlines()) == 1
    assert "broken.mp4" in outcome.stderr


def test_a_video_of_a_person_at_the_fast_pace(shared_data: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path, "--source", str(shared_data / "fixtures/pyfeat_single_face.mp4"), "--pace", "fast")
    assert outcome.code == 0
    assert outcome.summary["frames"] == {"captured": 72, "processed": 72, "no_face": 0, "dropped": {}}


def test_variable_rate_hevc_and_a_face_that_leaves(shared_data: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path, "--source", str(shared_data / "fixtures/pyfeat_face_noface.mov"), "--pace", "fast")
    assert outcome.code == 0
    assert outcome.summary["frames"]["captured"] == 169
    assert 40 < outcome.summary["frames"]["no_face"] < 120


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP")
def test_a_closed_terminal_ends_it_cleanly(start: Start) -> None:
    running = start("--source", "demo")
    running.address()
    outcome = running.end(signal.SIGHUP)
    assert outcome.code == 129
    assert balanced(outcome.summary)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_that_does_not_read_does_not_stop_the_stream(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()  # nobody ever reads `ours`
    summary = tmp_path / "summary.json"
    process = subprocess.Popen(
        [installed("psm-stream"), "--control-port", "auto", "--duration", "8", "--summary", str(summary)], stderr=theirs
    )
    os.write(theirs, b"x" * 3000)  # nearly full already
    assert process.wait(60) == 0
    os.close(ours)
    os.close(theirs)
    assert json.loads(summary.read_text())["frames"]["processed"] > 100


def test_a_reader_of_its_messages_that_leaves_does_not_end_it(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    options = ["--control-port", "auto", "--pace", "fast", "--frames", "60", "--summary", str(summary)]
    options += ["--record", str(tmp_path / "sessions")]
    process = subprocess.Popen([installed("psm-stream"), *options], stderr=subprocess.PIPE)
    process.stderr.close()
    assert process.wait(60) == 0
    assert json.loads(summary.read_text())["frames"]["processed"] == 60


def test_a_folder_as_summary_is_refused_before_the_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [installed("psm-stream"), "--summary", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_person_without_a_model_is_told(tmp_path: Path) -> None:
    outcome = run(tmp_path, "--pace", "fast", "--frames", "2", "--person", "nobody_yet")
    assert "no model of nobody_yet yet" in outcome.stderr
    model = ("--model", str(general_bundle()))
    outcome = run(tmp_path, "--pace", "fast", "--frames", "2", "--person", "nobody_yet", *model)
    assert "no model of nobody_yet yet" not in outcome.stderr
