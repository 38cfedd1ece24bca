"""The live loop in one process."""

import json
from pathlib import Path

import numpy as np
import pytest
import zmq
from tests.stream.live_runs import GENERAL, FakeAligner, Feed, Heard, a_live, balanced, frames_of, running

from psm_export import facecycle
from psm_export.untrained import draw_weights
from psm_export.write import Description, write_bundle
from psm_stream.bundle import Parity, open_bundle
from psm_stream.client import Control
from psm_stream.errors import AlignError, SourceError, SourceLost
from psm_stream.live import ARRIVALS_WAITING, Stop
from psm_stream.record.reader import Session
from psm_stream.replay import Replay, model_opener
from psm_stream.testing import FakeSource, picture
from psm_stream.values import Marker
from psm_stream.verify import verify
from psm_stream.wire.messages import Message


def test_a_source_that_ends_ends_the_run() -> None:
    live = a_live(frames_of(20))
    assert live.run() == Stop("source ended")
    heard = live.outlet.publisher
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
    (ready,) = live.outlet.publisher.headers("notify.ready")
    assert ready["model_id"] == GENERAL.manifest.model_id
    assert (ready["trained"], ready["providers"]) == (GENERAL.manifest.trained, ["CPUExecutionProvider"])
    assert live.outlet.publisher.headers("heartbeat.psm")


def test_every_face_is_published_and_latest_is_the_lowest_id() -> None:
    live = a_live(frames_of(3), FakeAligner(1, 4))
    live.run()
    for topic in ("embedding.01", "embedding.04", "face.01", "face.04"):
        assert [header["frame_index"] for header in live.outlet.publisher.headers(topic)] == [0, 1, 2]
    assert [header["face_id"] for header in live.outlet.publisher.headers("latest.00")] == [1, 1, 1]


def test_a_frame_without_a_face_is_told_on_latest_and_counted() -> None:
    live = a_live(frames_of(5), FakeAligner(0, scripted={1: "hidden", 2: "hidden"}))
    live.run()
    latest = live.outlet.publisher.headers("latest.00")
    assert [header["face_id"] for header in latest] == [0, -1, -1, 0, 0]
    assert latest[1]["reason"] == "hidden"
    assert [header["frame_index"] for header in live.outlet.publisher.headers("notify.face.lost")] == [1]
    assert [header["frame_index"] for header in live.outlet.publisher.headers("notify.face.found")] == [0, 3]
    assert live.summary()["frames"]["no_face"] == 2


def test_an_aligner_that_fails_ends_the_run_with_its_error(tmp_path: Path) -> None:
    failure = AlignError("mediapipe is out of order")
    live = a_live(frames_of(9), FakeAligner(0, scripted={4: failure}), record__root=str(tmp_path))
    stop = live.run()
    assert (stop.reason, stop.error) == ("failed", failure)
    assert len(live.outlet.publisher.headers("embedding.00")) == 4
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
    assert [header["error"] for header in live.outlet.publisher.headers("notify.source.lost")] == ["cable", "cable"]
    assert [header["attempts"] for header in live.outlet.publisher.headers("notify.source.back")] == [1, 1]
    assert live.summary()["frames"]["captured"] == 3
    assert balanced(live.summary())


def test_frames_on_their_way_at_an_interrupt_are_counted() -> None:
    live = a_live(FakeSource((picture(n) for n in range(10**9)), is_live=False))

    def interrupt(message: Message) -> None:
        if message.topic == "embedding.00":
            live.interrupt(130)

    live.outlet.publisher = Heard(interrupt)
    assert live.run() == Stop("interrupted")
    frames = live.summary()["frames"]
    assert frames["processed"] == 1
    assert frames["dropped"]["stop"] >= 1
    assert balanced(live.summary())
    assert live.outlet.publisher.stats()[-1]["frames"] == frames


def test_orders_are_answered_in_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    feed = Feed()
    live = a_live(FakeSource(feed, is_live=False), record__root=str(tmp_path / "none yet" / "sessions"))
    with running(live) as control:
        feed.frames(3)
        live.outlet.publisher.wait_for("embedding.00", 3)
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
        live.outlet.publisher.wait_for("embedding.00")
        feed.end()


def test_a_marker_that_waits_at_the_end_is_published_and_recorded(tmp_path: Path) -> None:
    live = a_live(frames_of(1), record__root=str(tmp_path))
    answers: list[str] = []

    def mark(message: Message) -> None:
        if message.topic == "embedding.00":  # on the main thread, so the marker can only wait behind this frame
            with Control(f"tcp://127.0.0.1:{live.parts.sockets.ports.control}") as control:
                answers.append(control.send("A the last one"))
            live.interrupt(130)

    live.outlet.publisher = Heard(mark)
    assert live.run() == Stop("interrupted")
    assert answers[0].startswith("OK ")
    (header,) = live.outlet.publisher.headers("marker.control")
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
        live.outlet.publisher.wait_for("embedding.01", 2)
        assert control.send("REVERT") == f"OK {GENERAL.manifest.model_id} is taken at the next frame"
        feed.frames(1)
        live.outlet.publisher.wait_for("embedding.01", 3)
        feed.end()
    (swap,) = live.outlet.publisher.headers("notify.model.swapped")
    ids = [open_bundle(other).manifest.model_id, GENERAL.manifest.model_id]
    assert [swap["old"], swap["new"], swap["model_epoch"], swap["reason"]] == [*ids, 1, "revert"]
    assert swap["frame_index"] == 2  # the very next
    for topic in ("embedding.00", "embedding.01"):
        for header in live.outlet.publisher.headers(topic):
            is_new = header["frame_index"] >= swap["frame_index"]
            assert (header["model_id"], header["model_epoch"]) == (ids[is_new], int(is_new))
    assert live.summary()["model_ids"] == ids
    (folder,) = tmp_path.glob("*/001")
    session = Session(folder)
    verdict = verify(Replay(session, model_opener(session.info)))
    assert not verdict.difference
    heard = live.outlet.publisher
    assert verdict.embeddings == len(heard.headers("embedding.00") + heard.headers("embedding.01"))
    assert session.info.models == tuple(ids)


def test_a_recording_whose_last_records_are_refused_counts_in_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("psm_stream.record.writer.LogWriter.finish", full)
    live = a_live(frames_of(3), record__root=str(tmp_path))
    assert live.run().error is None
    assert live.final["exit"] == 1
    assert "No space left on device" in live.final["complaint"]


def test_an_encoder_that_fails_ends_the_run_and_says_so_everywhere(tmp_path: Path, monkeypatch) -> None:
    live = a_live(frames_of(3), record__root=str(tmp_path))
    failure = ZeroDivisionError("in the middle")

    def fails(_: object) -> None:
        raise failure

    monkeypatch.setattr(live.pipeline.encoder, "encode", fails)
    assert live.run() == Stop("failed", failure)
    assert (live.final["exit"], live.final["exit_reason"]) == (1, "unexpected ZeroDivisionError: in the middle")
    assert live.outlet.publisher.stats()[-1]["exit"] == 1
    (folder,) = tmp_path.glob("*/001")
    assert Session(folder).info.finished.reason == "failed"


def test_the_last_statistics_are_the_summary() -> None:
    live = a_live(frames_of(4))
    live.run()
    last = live.outlet.publisher.stats()[-1]
    assert last == json.loads(json.dumps(live.final))
    assert last["exit"] == 0


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
            live.outlet.publisher.wait_for("embedding.00", n + 1)
            deepest = max(deepest, live.summary()["queues"]["inbox"])
        feed.end()
    assert deepest <= ARRIVALS_WAITING + 5
    assert live.outlet.publisher.published["marker"] > 100


def test_losses_keep_their_cause_when_the_run_is_interrupted() -> None:
    live = a_live(FakeSource((picture(n) for n in range(10**9)), is_live=True), source__pace="live")

    def interrupt(message: Message) -> None:
        if message.topic == "embedding.00":
            live.interrupt(130)

    live.outlet.publisher = Heard(interrupt)
    live.run()
    frames = live.final["frames"]
    assert frames["captured"] == frames["processed"] + sum(frames["dropped"].values())
    assert (
        frames["dropped"].get("stop", 0) <= 4
    )  # slot, align thread, inbox; whatever the slot replaced is not among them
