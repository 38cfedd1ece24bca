"""The examples run as processes of their own against a real publisher; what cannot run here is checked as text."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import psm_stream.client
from psm_stream.config import WireSettings
from psm_stream.wire.fake import FakeLive
from psm_stream.wire.schema import TOPICS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def live():
    with FakeLive() as live:
        yield live


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_python_subscriber(live):
    lines = run("python_subscriber.py", live.address, "5").splitlines()
    assert len(lines) == 5
    frames = [int(re.fullmatch(r"embedding\.00 frame (\d+) age [0-9.]+ ms lost 0 \[.*\]", line)[1]) for line in lines]
    assert frames == list(range(frames[0], frames[0] + 5))


@pytest.mark.parametrize("wanted", ["smile", "3"])
def test_react_to_cluster(wanted):
    with FakeLive(has_clusters=True) as live:
        lines = run("react_to_cluster.py", wanted, "2", live.address).splitlines()
        control = psm_stream.client.Control(live.address)
        control.send("t")
        control.close()
        labels = [marker.label for marker in live.markers]
    frames = [int(re.fullmatch(rf"{wanted} at frame (\d+), strength 0\.75", line)[1]) for line in lines]
    assert len(frames) == 2
    assert frames[1] // 100 > frames[0] // 100  # the first may have begun before; the second is another
    assert frames[1] % 100 >= 60
    assert labels == [f"face {wanted}"] * 2


def test_python_subscriber_imports_what_it_says():
    tree = ast.parse((EXAMPLES / "python_subscriber.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"sys", "time", "msgpack", "numpy", "zmq"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_client_subscriber(live):
    lines = run("client_subscriber.py", live.address, "5").splitlines()
    assert [line.split()[0] for line in lines] == ["frame"] * 5 + ["lost"]
    assert lines[-1].startswith("lost 0, ")


def test_the_client_subscriber_s_bar_shows_small_movements_too(monkeypatch, capsys):
    """Relative to the largest movement so far, whatever an encoder's unit is."""

    class Calm:
        lost = skipped = malformed = 0

        def __init__(self, *_: object) -> None:
            self.movements = [0.0, 2e-5, 1e-5, 4e-5]

        def __enter__(self) -> Calm:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __iter__(self):
            while True:
                yield self.message(0.0)

        def latest(self, **_: float) -> psm_stream.client.ClientMessage:
            return self.message(self.movements.pop(0))

        def message(self, movement: float) -> psm_stream.client.ClientMessage:
            return psm_stream.client.ClientMessage("x", {"frame_index": 1}, np.array([movement, 0.0]), 0.0)

    monkeypatch.setattr(psm_stream.client, "Subscriber", Calm)
    runpy.run_path(str(EXAMPLES / "client_subscriber.py"))["main"]("anywhere", "4")
    assert [line.count("#") for line in capsys.readouterr().out.splitlines()] == [0, 40, 20, 40, 0]


@pytest.mark.parametrize("name", ["python_subscriber.py", "client_subscriber.py", "psychopy_markers.py"])
@pytest.mark.parametrize("number", ["many", "-1", "2.5"])
def test_a_bad_number_is_one_line(name, number):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), "tcp://127.0.0.1:1", number], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{number!r}; give a whole number" in done.stderr


def test_measure_latency(live):
    report = json.loads(run("measure_latency.py", "--connect", live.address, "--count", "50", "--seconds", "60"))
    assert (report["n"], report["lost"], report["malformed"], report["frames_missing"]) == (50, 0, 0, 0)
    assert 0 < report["p50_ms"] <= report["p95_ms"] <= report["p99_ms"] <= report["max_ms"]
    assert report["clock_error_ms"] >= 0


def test_measure_latency_of_a_stream_without_faces(live):
    report = json.loads(
        run("measure_latency.py", "--connect", live.address, "--seconds", "0.2", "--topic", "blendshapes.")
    )
    assert report["n"] == 0
    assert "p50_ms" not in report


def test_measure_latency_reports_what_there_is_when_interrupted():
    measure = runpy.run_path(str(EXAMPLES / "measure_latency.py"))["measure"]

    class Interrupted:
        def __init__(self) -> None:
            self.left = 3

        def receive(self, _: float) -> psm_stream.client.ClientMessage:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return psm_stream.client.ClientMessage("x", {"frame_index": 5 - self.left, "t_capture": 1.0}, None, 1.25)

    options = argparse.Namespace(skip=1, count=100, seconds=60.0)
    assert measure(Interrupted(), options, 0.5) == ([750.0, 750.0], [4, 5])


@pytest.mark.skipif(importlib.util.find_spec("psychopy") is not None, reason="would open a window")
def test_psychopy_markers_without_a_screen(live):
    lines = run("psychopy_markers.py", live.address, "3").splitlines()
    assert lines[0] == "PsychoPy is not installed: the trials run without a screen"
    assert [line.split(":")[0] for line in lines if line.startswith("trial")] == [
        "trial 0 smile",
        "trial 1 frown",
        "trial 2 rest",
    ]
    # the last marker went over the control port, and was answered: the others left before it
    shown = [marker for marker in live.markers if marker.origin == "remote"]
    assert [marker.label for marker in shown] == ["show smile", "show frown", "show rest"]
    assert all(marker.fields["t"] <= marker.t for marker in shown)
    assert [marker.label for marker in live.markers if marker.origin == "control"] == [
        "experiment start",
        "experiment end",
    ]


def test_lsl_bridge_without_pylsl_is_one_line(tmp_path):
    (tmp_path / "pylsl.py").write_text("raise ModuleNotFoundError(\"No module named 'pylsl'\")")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "lsl_bridge.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "pip install pylsl" in done.stderr


def test_lsl_bridge(live):
    pylsl = pytest.importorskip("pylsl", reason="pylsl is not installed", exc_type=ImportError)
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "lsl_bridge.py"), live.address], stdout=subprocess.PIPE, text=True
    )
    try:
        assert "256 channels" in process.stdout.readline()
        (stream, *_) = pylsl.resolve_byprop("name", "psm-embedding", 1, 30)
        sample, t = pylsl.StreamInlet(stream).pull_sample(30)
        assert len(sample) == 256
        assert t <= pylsl.local_clock()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


@pytest.mark.parametrize("name", ["python_subscriber.py", "client_subscriber.py", "psychopy_markers.py"])
def test_nobody_there_is_one_line(name):
    with FakeLive() as gone:
        address = gone.address
    done = subprocess.run([sys.executable, str(EXAMPLES / name), address], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nobody answers at " in done.stderr


# examples for programs that are not here


def test_matlab_calls_only_what_the_client_has():
    text = (EXAMPLES / "matlab" / "psm_subscribe.m").read_text()
    classes = dict(re.findall(r"(\w+) = py\.psm_client\.(\w+)\(", text))
    assert classes == {"control": "Control", "reader": "LatestReader"}
    for variable, name in classes.items():
        kind = getattr(psm_stream.client, name)
        for method in re.findall(rf"\b{variable}\.(\w+)\(", text):
            assert callable(getattr(kind, method)), method
    assert {"face_id", "frame_index", "reason", "t_capture"} == set(re.findall(r'header\{"(\w+)"\}', text))


def test_the_bonsai_workflow_is_whole():
    space = {"b": "https://bonsai-rx.org/2018/workflow", "z": "clr-namespace:Bonsai.ZeroMQ;assembly=Bonsai.ZeroMQ"}
    workflow = ElementTree.parse(EXAMPLES / "bonsai" / "psm_subscribe.bonsai").find("b:Workflow", space)
    nodes = workflow.findall("b:Nodes/b:Expression", space)
    for edge in workflow.findall("b:Edges/b:Edge", space):
        assert 0 <= int(edge.get("From")) < int(edge.get("To")) < len(nodes)
    first = WireSettings().control_port
    addresses = {node.text for node in workflow.iterfind(".//z:ConnectionString", space)}
    assert addresses == {f">tcp://127.0.0.1:{first + 1}", f">tcp://127.0.0.1:{first + 3}"}
    published = {topic.kind + "." for topic in TOPICS}
    assert {node.text for node in workflow.iterfind(".//z:Topic", space)} <= published


def test_every_example_is_listed_with_whether_it_was_run():
    text = (EXAMPLES / "README.md").read_text()
    listed = set(re.findall(r"^\| \[([\w/.]+)\]", text, re.MULTILINE))
    there = {path.name + "/" * path.is_dir() for path in EXAMPLES.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert listed == {name for name in there if not name.startswith("__pycache__")}
    for name in ("matlab/", "bonsai/"):
        assert re.search(rf"\[{name}\].*\*\*not run\*\*", text)
        assert "Not run here" in (EXAMPLES / name / "README.md").read_text()
