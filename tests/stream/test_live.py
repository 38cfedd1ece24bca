"""The live loop in one process: real threads, sockets, pipeline and encoders; the source and the aligner are fakes."""

import json
import queue
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

from psm_export import facecycle
from psm_export.untrained import draw_weights
from psm_export.write import Description, write_bundle
from psm_stream.bundle import Parity, general_bundle, open_bundle
from psm_stream.client import Control
from psm_stream.config import load
from psm_stream.console import Console
from psm_stream.encoder import open_encoder
from psm_stream.errors import AlignError, SourceError, SourceLost
from psm_stream.live import ARRIVALS_WAITING, Live, Stop
from psm_stream.record.reader import Session
from psm_stream.record.testing import a_face
from psm_stream.replay import Replay, model_opener
from psm_stream.startup import Parts
from psm_stream.testing import FakeSource, picture
from psm_stream.values import Faces, Frame, Marker, NoFace, Sighting
from psm_stream.verify import verify
from psm_stream.wire.ingress import About
from psm_stream.wire.messages import Message
from psm_stream.wire.ports import open_sockets

PATIENCE_S = 30
GENERAL = open_bundle(general_bundle())


class FakeAligner:
    """Sees faces with the given ids in every frame, but for what `scripted` says of a frame's index."""

    name = "fake"

    def __init__(self, *face_ids: int, scripted: dict[int, BaseException | str] | None = None) -> None:
        self._face_ids = face_ids
        self._scripted = scripted or {}
        self.is_open = True

    def __call__(self, frame: Frame) -> Sighting:
        what = self._scripted.get(frame.stamp.index)
        if isinstance(what, BaseException):
            raise what
        if what is not None:
            return NoFace(frame.stamp, what)
        return Faces(
            frame.stamp,
            tuple(replace(a_face(frame.stamp, n, size_px=128), confidence=0.9) for n in self._face_ids),
        )

    def warm_up(self) -> None:
        return

    def close(self) -> None:
        self.is_open = False


class Heard:
    """Takes the publisher's place, and keeps what is published. on: called in the main thread with each message."""

    def __init__(self, on: Callable[[Message], None] = lambda _: None) -> None:
        self.messages: list[Message] = []
        self.published: Counter[str] = Counter()
        self._on = on
        self._changed = threading.Condition()

    def send(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self.published[message.kind] += 1
            self._changed.notify_all()
        self._on(message)

    send_latest = send

    def headers(self, topic: str) -> list[dict]:
        return [msgpack.unpackb(message.header) for message in self.messages if message.topic == topic]

    def wait_for(self, topic: str, count: int = 1) -> dict:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.headers(topic)) >= count, PATIENCE_S), f"no {topic}"
        return self.headers(topic)[count - 1]

    def stats(self) -> list[dict]:
        return [json.loads(message.payload) for message in self.messages if message.topic == "stats.pipeline"]


class Feed:
    """Frames one by one, when the test says so. `end` ends the source."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._given = 0

    def frames(self, count: int) -> None:
        for _ in range(count):
            self._queue.put(picture(self._given, self._given / 30))
            self._given += 1

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[object]:
        return iter(self._queue.get, None)


def a_live(source: FakeSource, aligner: FakeAligner | None = None, bundle=GENERAL, general=GENERAL, **settings) -> Live:
    plain = {"wire.control_port": "auto", "encoder.device": "cpu", "record.min_free_gb": 0, "source.pace": "fast"}
    resolved = load(None, plain | {key.replace("__", "."): value for key, value in settings.items()})
    session = uuid.uuid4().hex
    parts = Parts(
        resolved,
        session,
        About(session, 0.0),
        open_sockets(resolved.wire),
        source,
        aligner or FakeAligner(0),
        open_encoder(bundle, "cpu"),
        general,
    )
    live = Live(parts, Console(quiet=True), time.monotonic)
    live.publisher = Heard()
    return live


def frames_of(count: int) -> FakeSource:
    return FakeSource([picture(n, n / 30) for n in range(count)], is_live=False)


def balanced(summary: dict) -> bool:
    return summary["frames"]["captured"] == summary["frames"]["processed"] + sum(summary["frames"]["dropped"].values())


@contextmanager
def running(live: Live) -> Iterator[Control]:
    """Run it in a thread, and talk to it by its control port. It is stopped when the test is through with it."""
    stops: list[Stop] = []
    thread = threading.Thread(target=lambda: stops.append(live.run()))
    thread.start()
    try:
        with Control(f"tcp://127.0.0.1:{live.parts.sockets.ports.control}", timeout_s=PATIENCE_S) as control:
            yield control
    finally:
        live.stop("the test ended")
        thread.join(PATIENCE_S)
    assert stops


def test_a_source_that_ends_ends_the_run() -> None:
    live = a_live(frames_of(20))
    assert live.run() == Stop("source ended")
    heard = live.publisher
    assert [header["frame_index"] for header in heard.headers("embedding.00")] == list(range(20))
    assert [header["frame_index"] for header in heard.headers("latest.00")] == list(range(20))
    assert live.summary()["frames"] == {"captured": 20, "processed": 20, "no_face": 0, "dropped": {}}
    assert heard.stats()
    assert all(balanced(stats) for stats in heard.stats())
    assert heard.stats()[-1]["frames"] == live.summary()["frames"]
    assert not live.parts.aligner.is_open
    assert live.parts.sockets.control.closed


def test_what_is_announced_at_the_start() -> None:
    live = a_live(frames_of(1))
    live.run()
    (ready,) = live.publisher.headers("notify.ready")
    assert ready["model_id"] == GENERAL.manifest.model_id
    assert (ready["trained"], ready["providers"]) == (GENERAL.manifest.trained, ["CPUExecutionProvider"])
    assert live.publisher.headers("heartbeat.psm")


def test_every_face_is_published_and_latest_is_the_lowest_id() -> None:
    live = a_live(frames_of(3), FakeAligner(1, 4))
    live.run()
    for topic in ("embedding.01", "embedding.04", "face.01", "face.04"):
        assert [header["frame_index"] for header in live.publisher.headers(topic)] == [0, 1, 2]
    assert [header["face_id"] for header in live.publisher.headers("latest.00")] == [1, 1, 1]


def test_a_frame_without_a_face_is_told_on_latest_and_counted() -> None:
    live = a_live(frames_of(5), FakeAligner(0, scripted={1: "hidden", 2: "hidden"}))
    live.run()
    latest = live.publisher.headers("latest.00")
    assert [header["face_id"] for header in latest] == [0, -1, -1, 0, 0]
    assert latest[1]["reason"] == "hidden"
    assert [header["frame_index"] for header in live.publisher.headers("notify.face.lost")] == [1]
    assert [header["frame_index"] for header in live.publisher.headers("notify.face.found")] == [0, 3]
    assert live.summary()["frames"]["no_face"] == 2


def test_an_aligner_that_fails_ends_the_run_with_its_error(tmp_path: Path) -> None:
    failure = AlignError("mediapipe is out of order")
    live = a_live(frames_of(9), FakeAligner(0, scripted={4: failure}), record__root=str(tmp_path))
    stop = live.run()
    assert (stop.reason, stop.error) == ("failed", failure)
    assert len(live.publisher.headers("embedding.00")) == 4
    assert live.summary()["frames"]["processed"] == 4
    assert balanced(live.summary())
    (folder,) = tmp_path.glob("*/001")
    assert Session(folder).info.finished.reason == "failed"


@pytest.mark.parametrize("defect", [RuntimeError("a defect"), SystemExit(3)])
def test_no_defect_dies_in_its_thread(defect: BaseException) -> None:
    stop = a_live(frames_of(2), FakeAligner(0, scripted={1: defect})).run()
    assert stop.error is defect


def test_the_source_s_error_arrives_after_the_frames_before_it() -> None:
    failure = SourceError("the file is damaged here")
    live = a_live(FakeSource([picture(0), picture(1), failure], is_live=False))
    assert live.run().error is failure
    assert live.summary()["frames"]["processed"] == 2


def test_a_source_that_does_not_open_is_an_error() -> None:
    failure = SourceError("no such camera")
    live = a_live(FakeSource([], opens=[failure]))
    assert live.run().error is failure
    assert live.summary()["frames"]["captured"] == 0


def test_a_lost_source_and_its_return_are_published() -> None:
    script = [picture(0), SourceLost("cable"), picture(1), SourceLost("cable"), picture(2)]
    live = a_live(FakeSource(script), source__pace="live", source__retry_s=0.01, source__retry_max_s=0.01)
    assert live.run() == Stop("source ended")
    assert [header["error"] for header in live.publisher.headers("notify.source.lost")] == ["cable", "cable"]
    assert [header["attempts"] for header in live.publisher.headers("notify.source.back")] == [1, 1]
    assert live.summary()["frames"]["captured"] == 3
    assert balanced(live.summary())


def test_frames_on_their_way_at_an_interrupt_are_counted() -> None:
    live = a_live(FakeSource((picture(n) for n in range(10**9)), is_live=False))

    def interrupt(message: Message) -> None:
        if message.topic == "embedding.00":
            live.interrupt(130)

    live.publisher = Heard(interrupt)
    assert live.run() == Stop("interrupted")
    frames = live.summary()["frames"]
    assert frames["processed"] == 1
    assert frames["dropped"]["stop"] >= 1
    assert balanced(live.summary())
    assert live.publisher.stats()[-1]["frames"] == frames


def test_orders_are_answered_in_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    feed = Feed()
    live = a_live(FakeSource(feed, is_live=False), record__root=str(tmp_path / "none yet" / "sessions"))
    with running(live) as control:
        feed.frames(3)
        live.publisher.wait_for("embedding.00", 3)
        assert control.send("r").startswith(f"OK {tmp_path}")
        assert control.send("r") == "ERROR nothing is being recorded"
        assert control.send("R a trial").startswith(f"OK {tmp_path}")
        assert control.send("R").startswith("ERROR already recording")
        assert control.send("REVERT") == "OK the general encoder runs already"
        assert control.send("FREEZE") == "OK"
        assert control.send("REVERT").startswith("ERROR frozen")
        assert control.send("c").startswith("ERROR")
        snapshot = Path(control.ask("SNAPSHOT").removeprefix("OK "))
        assert snapshot.parent == tmp_path / "home" / "snapshots"
        assert control.send("QUIT") == "OK"
        feed.end()
    assert live.stopped == Stop("asked to quit")
    assert Session(next(tmp_path.glob("none yet/sessions/*/002"))).info.name == "a trial"
    with np.load(snapshot) as stored:
        assert stored["frame_index"].tolist() == [0, 1, 2]


def test_a_recording_that_cannot_start_is_the_answer_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sessions").write_text("in the way of the default root")
    feed = Feed()
    live = a_live(FakeSource(feed, is_live=False))
    with running(live) as control:
        assert control.send("R").startswith("ERROR cannot")
        feed.frames(1)
        live.publisher.wait_for("embedding.00")
        feed.end()


def test_a_marker_that_waits_at_the_end_is_published_and_recorded(tmp_path: Path) -> None:
    live = a_live(frames_of(1), record__root=str(tmp_path))
    answers: list[str] = []

    def mark(message: Message) -> None:
        if message.topic == "embedding.00":  # on the main thread, so the marker can only wait behind this frame
            with Control(f"tcp://127.0.0.1:{live.parts.sockets.ports.control}") as control:
                answers.append(control.send("A the last one"))
            live.interrupt(130)

    live.publisher = Heard(mark)
    assert live.run() == Stop("interrupted")
    assert answers[0].startswith("OK ")
    (header,) = live.publisher.headers("marker.control")
    assert (header["label"], header["t_marker"]) == ("the last one", float(answers[0][3:]))
    (folder,) = tmp_path.glob("*/001")
    values = [logged.value for logged in Session(folder).entries()]
    assert [value.label for value in values if isinstance(value, Marker)] == ["the last one"]
    assert [value.topic for value in values if isinstance(value, Message)].count("marker.control") == 1


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The general encoder's architecture with other weights."""
    folder = tmp_path_factory.mktemp("bundles") / "other"
    exact = Parity(reference="itself", crops=0, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=1e-4)
    about = Description("other", "a test", "FaceCycle", "inside", "fp32", False, "MIT", "a test", {})
    write_bundle(folder, facecycle.build_model(draw_weights(seed=7)), about, exact)
    return folder


def test_revert_swaps_the_encoder_and_the_recording_verifies_through_it(other: Path, tmp_path: Path) -> None:
    feed = Feed()
    source = FakeSource(feed, is_live=False)
    live = a_live(source, FakeAligner(0, 1), open_bundle(other), record__root=str(tmp_path))
    with running(live) as control:
        feed.frames(2)
        live.publisher.wait_for("embedding.01", 2)
        assert control.send("REVERT") == f"OK {GENERAL.manifest.model_id} is taken at a coming frame"
        while not live.publisher.headers("notify.model.swapped"):  # it is opened meanwhile
            seen = len(live.publisher.headers("embedding.01"))
            feed.frames(1)
            live.publisher.wait_for("embedding.01", seen + 1)
        feed.end()
    (swap,) = live.publisher.headers("notify.model.swapped")
    ids = [open_bundle(other).manifest.model_id, GENERAL.manifest.model_id]
    assert [swap["old"], swap["new"], swap["model_epoch"], swap["reason"]] == [*ids, 1, "revert"]
    for topic in ("embedding.00", "embedding.01"):
        for header in live.publisher.headers(topic):
            is_new = header["frame_index"] >= swap["frame_index"]
            assert (header["model_id"], header["model_epoch"]) == (ids[is_new], int(is_new))
    assert live.summary()["model_ids"] == ids
    (folder,) = tmp_path.glob("*/001")
    session = Session(folder)
    verdict = verify(Replay(session, model_opener(session.info)))
    assert not verdict.difference
    assert verdict.embeddings == len(live.publisher.headers("embedding.00") + live.publisher.headers("embedding.01"))
    assert session.info.models == tuple(ids)


def test_a_refused_swap_is_published_and_the_old_encoder_goes_on(other: Path, tmp_path: Path) -> None:
    shutil.copytree(general_bundle(), tmp_path / "general")
    general = open_bundle(tmp_path / "general")
    (tmp_path / "general" / "encoder.onnx").write_bytes(b"changed behind its back")
    feed = Feed()
    live = a_live(FakeSource(feed, is_live=False), bundle=open_bundle(other), general=general)
    with running(live) as control:
        assert control.send("REVERT").startswith("OK")
        live.publisher.wait_for("log.error")
        feed.frames(2)
        assert live.publisher.wait_for("embedding.00", 2)["model_epoch"] == 0
        feed.end()
    (line,) = [message.payload.decode() for message in live.publisher.messages if message.topic == "log.error"]
    assert line.startswith("swap refused: ")
    assert live.publisher.headers("notify.model.swapped") == []
    assert live.summary()["model_ids"] == [open_bundle(other).manifest.model_id]


def test_an_encoder_that_fails_ends_the_run_and_says_so_everywhere(tmp_path: Path, monkeypatch) -> None:
    live = a_live(frames_of(3), record__root=str(tmp_path))
    failure = ZeroDivisionError("in the middle")

    def fails(_: object) -> None:
        raise failure

    monkeypatch.setattr(live.pipeline.encoder, "encode", fails)
    assert live.run() == Stop("failed", failure)
    assert (live.final["exit"], live.final["exit_reason"]) == (1, "unexpected ZeroDivisionError: in the middle")
    assert live.publisher.stats()[-1]["exit"] == 1
    (folder,) = tmp_path.glob("*/001")
    assert Session(folder).info.finished.reason == "failed"


def test_the_last_statistics_are_the_summary() -> None:
    live = a_live(frames_of(4))
    live.run()
    last = live.publisher.stats()[-1]
    assert last == json.loads(json.dumps(live.final))
    assert last["exit"] == 0


def test_a_freeze_stops_a_swap_that_is_being_opened() -> None:
    feed = Feed()
    other = open_bundle(general_bundle())
    live = a_live(FakeSource(feed, is_live=False))
    with running(live) as control:
        feed.frames(1)
        live.publisher.wait_for("embedding.00")
        live.swap(other, "test")
        assert control.send("FREEZE") == "OK"
        line = live.publisher.wait_for("log.warning")
        feed.frames(1)
        live.publisher.wait_for("embedding.00", 2)
        feed.end()
    assert line["model_epoch"] == 0
    assert live.publisher.headers("notify.model.swapped") == []


def test_a_flood_of_markers_does_not_hold_up_the_frames() -> None:
    feed = Feed()
    live = a_live(FakeSource(feed, is_live=False))
    deepest = 0
    with running(live) as control, zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger = 0
        push.connect(f"tcp://127.0.0.1:{control.send('MARKER_PORT')}")
        for n in range(30):
            for _ in range(500):
                try:
                    push.send(b"flood", zmq.DONTWAIT)
                except zmq.Again:
                    break
            feed.frames(1)
            live.publisher.wait_for("embedding.00", n + 1)
            deepest = max(deepest, live.summary()["queues"]["inbox"])
        feed.end()
    assert deepest <= ARRIVALS_WAITING + 5
    assert live.publisher.published["marker"] > 100


def test_losses_keep_their_cause_when_the_run_is_interrupted() -> None:
    live = a_live(FakeSource((picture(n) for n in range(10**9)), is_live=True), source__pace="live")

    def interrupt(message: Message) -> None:
        if message.topic == "embedding.00":
            live.interrupt(130)

    live.publisher = Heard(interrupt)
    live.run()
    frames = live.final["frames"]
    assert frames["captured"] == frames["processed"] + sum(frames["dropped"].values())
    assert (
        frames["dropped"].get("stop", 0) <= 4
    )  # slot, align thread, inbox; whatever the slot replaced is not among them
