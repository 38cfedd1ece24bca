"""A recording holds what it was given, in order; whatever ends it is said once, and never holds up who records."""

import shutil
import threading
from pathlib import Path

import pytest

from psm_stream.errors import DiskFull, SessionError
from psm_stream.record import writer
from psm_stream.record.backlog import Bound
from psm_stream.record.codec import Start, Swap
from psm_stream.record.outside import Outside, create_file
from psm_stream.record.reader import Session
from psm_stream.record.testing import fake_encoder, same_face, some_faces
from psm_stream.values import Faces, Marker, NoFace, SwapEncoder
from psm_stream.wire.messages import Message

GB = 10**9
OTHER_MODEL = "ba9876543210"


def finish(recorder) -> Session:
    recorder.stop()
    assert recorder.join(30)
    return Session(recorder.folder)


class Gate:
    """A file on a disk that does not answer until it is opened."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self.open = threading.Event()
        self.reached = threading.Event()

    def write(self, data) -> int:
        self.reached.set()
        assert self.open.wait(60)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class Failing:
    """A file on a disk that fails after so many bytes."""

    def __init__(self, path: Path, room: int) -> None:
        self._file = path.open("xb")
        self._room = room

    def write(self, data) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(28, "No space left on device")
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def no_sync(_file) -> None:
    """For files without a descriptor."""


def test_everything_comes_back_in_order(desk, builder):
    recorder = desk.start(model_epoch=3, name="trial 1")
    given = []
    for index in range(20):
        item = NoFace(some_faces(index).frame, "none") if index == 5 else some_faces(index, rich=index == 6)
        recorder.input(item)
        message = builder.heartbeat()
        recorder.message(message)
        given += [item, message]
    marker = Marker("m", 101.0, "remote", {"x": 1})
    recorder.input(marker)
    session = finish(recorder)
    start, *values = [logged.value for logged in session.entries()]
    assert start == Start(desk.encoder.model_id, 3)
    assert len(values) == 41
    for one, other in zip([*given, marker], values, strict=True):
        if isinstance(one, Faces):
            assert isinstance(other, Faces)
            assert same_face(one.faces[0], other.faces[0])
        else:
            assert one == other
    assert session.is_finished
    assert session.info.name == "trial 1"
    assert (session.info.finished.inputs, session.info.finished.messages) == (21, 20)


def test_it_announces_start_and_stop_once(desk):
    recorder = desk.start()
    assert desk.subjects() == ["recording.started"]
    assert desk.notices[0].fields["folder"] == str(recorder.folder)
    finish(recorder)
    recorder.stop()
    assert desk.subjects() == ["recording.started", "recording.stopped"]
    assert desk.stopped().fields == {
        "folder": str(recorder.folder),
        "reason": "asked to stop",
        "failed": False,
        "inputs": 0,
        "messages": 0,
    }


def test_a_run_can_be_recorded_several_times_each_into_its_own_folder(desk, heartbeats):
    sessions = []
    for count in (1, 2, 3):
        recorder = desk.start(model_epoch=count)
        for message in heartbeats(count):
            recorder.message(message)
        sessions.append(finish(recorder))
    assert [session.folder.name for session in sessions] == ["001", "002", "003"]
    assert [session.start().model_epoch for session in sessions] == [1, 2, 3]
    assert [len(list(session.messages())) for session in sessions] == [1, 2, 3]
    assert len({session.info.uuid for session in sessions}) == 3
    assert {session.info.run for session in sessions} == {"ab" * 16}


def test_every_encoder_used_is_kept_before_its_swap_is_logged(desk, tmp_path):
    other = fake_encoder(tmp_path / "people", OTHER_MODEL)
    recorder = desk.start()
    recorder.input(SwapEncoder(other, "adapt"))
    recorder.input(SwapEncoder(desk.encoder, "revert"))
    session = finish(recorder)
    assert list(session.inputs()) == [Swap(OTHER_MODEL, "adapt"), Swap(desk.encoder.model_id, "revert")]
    assert session.info.models == (desk.encoder.model_id, OTHER_MODEL)
    for model_id in session.info.models:
        assert (session.model_folder(model_id) / "manifest.json").exists()


def test_a_swap_that_waits_for_its_frame_when_the_recording_starts_is_its_first_input(desk, tmp_path):
    other = fake_encoder(tmp_path / "people", OTHER_MODEL)
    session = finish(desk.start(waiting=SwapEncoder(other, "revert")))
    assert [logged.value for logged in session.entries()] == [
        Start(desk.encoder.model_id, 0),
        Swap(OTHER_MODEL, "revert"),
    ]


def test_log_times_are_the_inputs_own(desk):
    recorder = desk.start(outside=Outside(clock=lambda: 50.0, unix_clock=lambda: 1.7e9))
    recorder.input(some_faces(30))
    recorder.input(Marker("m", 51.25, "control"))
    times = [logged.t for logged in finish(recorder).entries()]
    assert times == pytest.approx([50.0, 101.0, 51.25], abs=1e-6)


def test_nearly_full_at_the_start_is_an_error_and_makes_no_folder(desk):
    with pytest.raises(DiskFull, match=r"0\.50 GB free, 1 GB are kept"):
        desk.start(outside=Outside(free_bytes=lambda _: GB // 2), min_free_gb=1.0)
    assert not (desk.root / "sessions").exists()


def test_nearly_full_later_stops_the_recording_loudly_and_it_replays(desk, heartbeats):
    free = iter([2 * GB, 2 * GB])
    recorder = desk.start(outside=Outside(free_bytes=lambda _: next(free, GB - 1)), min_free_gb=1.0)
    recorder.message(heartbeats(1)[0])
    assert recorder.join(30)
    notice = desk.stopped()
    assert notice.fields["failed"]
    assert "the disk is nearly full: 1.00 GB free" in notice.fields["reason"]
    assert not recorder.is_recording
    recorder.message(heartbeats(1)[0])  # the stream goes on
    session = Session(recorder.folder)
    assert session.is_finished
    assert len(list(session.messages())) == 1
    assert "nearly full" in session.info.finished.reason


def test_a_disk_that_hangs_never_blocks_and_overflow_ends_the_recording_loudly(desk, heartbeats):
    gates = []

    def hanging(path):
        gates.append(Gate(path))
        return gates[-1]

    outside = Outside(create_file=hanging, sync_file=no_sync)
    recorder = desk.start(outside=outside, bound=Bound(items=50, size_bytes=10**9))
    assert gates[0].reached.wait(30)
    for message in heartbeats(100):
        recorder.message(message)
    assert not recorder.is_recording
    assert "the disk is too slow: 50 records" in desk.stopped().fields["reason"]
    assert desk.stopped().fields["failed"]
    assert not recorder.join(0)
    gates[0].open.set()
    assert recorder.join(30)
    assert len(list(Session(recorder.folder).messages())) == 49  # the start record was the fiftieth
    assert desk.subjects() == ["recording.started", "recording.stopped"]


def test_overflow_is_bounded_in_bytes_too(desk):
    gates = []

    def hanging(path):
        gates.append(Gate(path))
        return gates[-1]

    outside = Outside(create_file=hanging, sync_file=no_sync)
    recorder = desk.start(outside=outside, bound=Bound(items=10**6, size_bytes=10**6))
    for number in range(100):
        recorder.message(Message("log.info", b"", bytes([number]) * 50_000))
    assert "the disk is too slow" in desk.stopped().fields["reason"]
    assert recorder.status()["queued_mb"] <= 1.0
    gates[0].open.set()


def test_at_the_fast_pace_who_records_waits_instead_and_nothing_is_lost(desk):
    recorder = desk.start(wait_when_full=True, bound=Bound(items=4, size_bytes=10**6))
    for number in range(200):
        recorder.message(Message("log.info", b"", str(number).encode()))
    session = finish(recorder)
    assert [int(message.payload) for message in session.messages()] == list(range(200))


def test_a_disk_that_hangs_ends_a_recording_that_waits_too(desk, monkeypatch):
    monkeypatch.setattr(writer, "PATIENCE_S", 0.01)
    gates = []

    def hanging(path):
        gates.append(Gate(path))
        return gates[-1]

    outside = Outside(create_file=hanging, sync_file=no_sync)
    recorder = desk.start(outside=outside, wait_when_full=True, bound=Bound(items=4, size_bytes=10**6))
    for number in range(6):
        recorder.message(Message("log.info", b"", str(number).encode()))
    assert "the disk is too slow" in desk.stopped().fields["reason"]
    gates[0].open.set()


def test_a_failing_disk_ends_a_recording_that_waits_and_lets_go_who_waits(desk):
    outside = Outside(create_file=lambda path: Failing(path, 20_000), sync_file=no_sync)
    recorder = desk.start(outside=outside, wait_when_full=True, bound=Bound(items=4, size_bytes=10**6))
    for number in range(200):
        recorder.message(Message("log.info", b"", some_faces(number).faces[0].crop.tobytes()))
    assert recorder.join(30)
    assert "No space left on device" in desk.stopped().fields["reason"]


def test_a_disk_that_fails_is_said_and_what_was_written_before_replays(desk):
    outside = Outside(create_file=lambda path: Failing(path, 60_000), sync_file=no_sync)
    recorder = desk.start(outside=outside)
    index = 0
    while recorder.is_recording:
        recorder.input(some_faces(index, size_px=64))
        index += 1
    assert recorder.join(30)
    assert desk.stopped().fields["failed"]
    assert "No space left on device" in desk.stopped().fields["reason"]
    session = Session(recorder.folder)
    assert not session.is_finished
    assert [item.frame.index for item in session.inputs()] == list(range(len(list(session.inputs()))))


def test_a_disk_that_fails_at_the_very_end_is_said(desk):
    class FailsToClose(Failing):
        def close(self) -> None:
            super().close()
            raise OSError(5, "Input/output error")

    outside = Outside(create_file=lambda path: FailsToClose(path, 10**9), sync_file=no_sync)
    recorder = desk.start(outside=outside)
    recorder.stop()
    assert recorder.join(30)
    assert "Input/output error" in desk.stopped().fields["reason"]
    assert desk.stopped().fields["failed"]


def test_a_bundle_that_vanished_is_said_and_the_log_is_ended_whole(desk, tmp_path):
    gone = fake_encoder(tmp_path / "people", OTHER_MODEL)
    shutil.rmtree(gone.bundle.folder)
    recorder = desk.start()
    recorder.input(Marker("before", 100.0, "control"))
    recorder.input(SwapEncoder(gone, "adapt"))
    assert recorder.join(30)
    assert f"cannot keep model {OTHER_MODEL}: No such file" in desk.stopped().fields["reason"]
    assert desk.stopped().fields["failed"]
    session = Session(recorder.folder)
    assert list(session.inputs()) == [Marker("before", 100.0, "control")]
    assert session.info.finished.failed


def test_a_defect_in_the_recorder_is_said_and_not_lost_with_its_thread(desk):
    recorder = desk.start()
    recorder.input(Marker("before", 100.0, "control"))
    recorder.message("not a message")
    assert recorder.join(30)
    assert "the recorder failed: " in desk.stopped().fields["reason"]
    assert desk.stopped().fields["failed"]
    assert list(Session(recorder.folder).inputs()) == [Marker("before", 100.0, "control")]


@pytest.mark.parametrize("where", ["root", "bundle", "log"])
def test_what_cannot_be_written_at_the_start_is_one_line_and_leaves_nothing(desk, where):
    outside = Outside()
    if where == "root":
        (desk.root / "sessions").write_text("a file")
    if where == "bundle":
        shutil.rmtree(desk.encoder.bundle.folder)
    if where == "log":
        outside = Outside(create_file=lambda path: create_file(path / "below a file that is not there"))
    with pytest.raises(SessionError) as refusal:
        desk.start(outside=outside)
    assert "\n" not in str(refusal.value)
    assert desk.notices == []
    assert not list(desk.root.glob("sessions/*/*"))


def test_a_disk_that_cannot_be_asked_for_its_room_is_one_line(desk):
    def refusing(_folder):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(SessionError, match=r"cannot record under .*: Permission denied; name another folder"):
        desk.start(outside=Outside(free_bytes=refusing))


def test_credentials_do_not_reach_the_folder(desk):
    recorder = desk.start(config={"source": {"rtsp": "rtsp://me:secret@camera/1"}}, source="rtsp://me:secret@camera/1")
    finish(recorder)
    for path in recorder.folder.rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes()
