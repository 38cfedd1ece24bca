"""Recording within a run: what is asked for, opened aside, handed over and ended, as the live loop does it."""

import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from psm_stream.config import RecordSettings, Settings
from psm_stream.pipeline import Pipeline
from psm_stream.record.reader import Session
from psm_stream.record.session import read_info
from psm_stream.record.testing import a_training, fake_encoder, some_faces
from psm_stream.record.writer import Recorder
from psm_stream.recording import Opened, Recording
from psm_stream.values import NoFace, Stamp, SwapEncoder

PARENT, CHILD = "0123456789ab", "111111111111"


class Desk:
    """A Recording over a temporary root, and what it posts."""

    def __init__(self, root, is_asked_for=True) -> None:
        self.encoder = fake_encoder(root / "bundles", PARENT)
        self.child = fake_encoder(root / "bundles", CHILD)
        record = RecordSettings(root=root / "sessions", min_free_gb=0)
        parts = SimpleNamespace(
            session="ab" * 16,
            settings=Settings(record=record),
            source=SimpleNamespace(name="fake", is_live=True),
            as_run=dict,
        )
        self.posted: list[object] = []
        self.told = threading.Condition()
        self.recording = Recording(parts, Pipeline(self.encoder), self.post, lossless=False)
        if is_asked_for:
            self.recording.start("")

    def post(self, item) -> None:
        with self.told:
            self.posted.append(item)
            self.told.notify_all()

    def opened(self) -> Opened:
        with self.told:
            assert self.told.wait_for(lambda: any(isinstance(item, Opened) for item in self.posted), 60)
        return next(item for item in self.posted if isinstance(item, Opened))


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.recording.join(lambda: False)


def calmly() -> bool:
    return False


def test_an_adaptation_goes_into_the_session_that_is_written(desk, tmp_path):
    training = a_training(tmp_path / "work", desk.child.bundle)
    folder = desk.recording.adaptation(training, {"base": "general", "seed": 3}).result(60)
    assert folder.name == "001"
    assert (folder / "snapshot.npz").exists()
    session = desk.recording.stop("done")
    assert desk.recording.join(calmly)
    (entry,) = read_info(folder.parent.parent).adaptations
    assert (str(folder.parent.parent), entry.model_id) == (session, CHILD)


def test_a_failed_one_says_why(desk, tmp_path):
    training = a_training(tmp_path / "work", None)
    folder = desk.recording.adaptation(training, {}, failure="silent for 60 s").result(60)
    assert '"reason": "silent for 60 s"' in (folder / "adaptation.json").read_text()


def test_without_a_recording_an_adaptation_goes_nowhere(tmp_path):
    desk = Desk(tmp_path, is_asked_for=False)
    training = a_training(tmp_path / "work", desk.child.bundle)
    assert desk.recording.adaptation(training, {}).result(60) is None
    desk.recording.start("")
    desk.recording.stop("done")
    assert desk.recording.adaptation(training, {}).result(60) is None
    assert desk.recording.join(calmly)


def test_a_failure_at_the_very_end_is_known_once_the_rest_is_written(desk, monkeypatch):
    """The last records meet a full disk after the recording was told to stop."""
    go_on = threading.Event()

    def full(*_):
        go_on.wait(60)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("psm_stream.record.writer.LogWriter.finish", full)
    desk.recording.input(some_faces(0))
    desk.recording.stop("source ended")
    assert desk.recording.failure == ""
    go_on.set()
    assert desk.recording.join(calmly)
    assert "No space left" in desk.recording.failure


def test_the_failure_of_what_an_order_began_is_nobody_elses(tmp_path, monkeypatch):
    desk = Desk(tmp_path, is_asked_for=False)
    desk.recording.start_aside("mine", Future())
    desk.recording.attach(desk.opened())
    monkeypatch.setattr(Recorder, "failure", "the disk is full")
    assert desk.recording.failure == ""
    desk.recording.stop("done")
    assert desk.recording.join(calmly)


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_session_that_is_still_being_opened_at_the_end_is_finished(tmp_path, monkeypatch, is_taken):
    desk = Desk(tmp_path, is_asked_for=False)
    go_on = threading.Event()
    really = Recorder.start
    monkeypatch.setattr(Recorder, "start", lambda *given, **named: go_on.wait(60) and really(*given, **named))
    desk.recording.start_aside("late", Future())
    desk.recording.stop("source ended")
    threading.Timer(0.1, go_on.set).start()
    assert desk.recording.join(calmly)
    opened = desk.opened()
    if is_taken:
        desk.recording.abandon(opened)
    info = read_info(opened.recorder.folder)
    assert (info.name, info.finished.reason) == ("late", "the run ended")


def test_a_session_that_never_opens_holds_up_the_end_for_a_moment_only(tmp_path, monkeypatch):
    desk = Desk(tmp_path, is_asked_for=False)
    go_on = threading.Event()
    monkeypatch.setattr(Recorder, "start", lambda *_, **__: go_on.wait(60))
    desk.recording.start_aside("never", Future())
    assert not desk.recording.join(lambda: True)
    go_on.set()


def test_a_session_is_described_anew_when_the_encoder_went_and_came_back(tmp_path):
    """As by a swap and REVERT, which leave the encoder and add two to its epoch."""
    desk = Desk(tmp_path, is_asked_for=False)
    pipeline, reply = desk.recording._pipeline, Future()
    desk.recording.start_aside("", reply)
    opened = desk.opened()
    for number, encoder in enumerate((desk.child, desk.encoder)):
        pipeline.step(SwapEncoder(encoder, "a test"))
        pipeline.step(NoFace(Stamp(number, number / 30), "a test"))
    desk.posted.clear()
    desk.recording.attach(opened)
    again = desk.opened()
    desk.recording.attach(again)
    assert again.opening.model_epoch == 2
    assert reply.result(60) == f"OK {again.recorder.folder}"
    desk.recording.stop("done")
    assert desk.recording.join(calmly)
    assert Session(again.recorder.folder).start().model_epoch == 2
