"""Adaptations in a session: kept whole beside the log, with what a rerun needs; what cannot be kept ends nothing."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from psm_stream.bundle import open_bundle
from psm_stream.errors import SessionError
from psm_stream.record import adaptations
from psm_stream.record.adaptations import Handover, checkpoint_of, keep, keep_checkpoint
from psm_stream.record.outside import Outside
from psm_stream.record.reader import Session
from psm_stream.record.session import read_info
from psm_stream.record.testing import a_checkpoint, a_training, fake_encoder, open_fake, some_faces
from psm_stream.replay import Replay
from psm_stream.values import SwapEncoder
from psm_stream.verify import verify

PARENT, CHILD = "0123456789ab", "111111111111"
JOB = {"base": "general", "recipe": "fast", "seed": 3, "device": "cpu", "parent": PARENT}


@pytest.fixture
def child(tmp_path):
    return fake_encoder(tmp_path / "bundles", CHILD)


def a_handover(folder: Path, **changes) -> Handover:
    return Handover(**{"snapshot": folder / "snapshot.npz", "out": folder / "out", "job": JOB, **changes})


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_an_accepted_one_is_kept_whole_with_its_model_and_weights(desk, tmp_path, child):
    training = a_training(tmp_path / "work", child.bundle)
    left = files_of(training)
    recorder = desk.start()
    folder = recorder.adaptation(a_handover(training)).result(60)
    assert folder == recorder.folder / "adaptations" / "001"
    recorder.input(SwapEncoder(child, "adapt"))
    recorder.stop()
    assert recorder.join(60)

    kept = files_of(recorder.folder)
    assert kept["adaptations/001/snapshot.npz"] == left["snapshot.npz"]
    assert json.loads((folder / "job.json").read_text()) == JOB
    assert (folder / "adaptation.json").read_text().count("better") == 1
    for name in ("manifest.json", "encoder.onnx"):
        assert kept[f"models/{CHILD}/{name}"] == left[f"out/bundle/{name}"]
    for name in ("checkpoint.json", "encoder.safetensors"):
        assert kept[f"models/{CHILD}/checkpoint/{name}"] == left[f"out/checkpoint/{name}"]
    assert not [name for name in kept if "/." in name]

    session = Session(recorder.folder)
    (entry,) = session.info.adaptations
    assert entry.model_dump() == {
        "number": "001",
        "accepted": True,
        "reason": "better",
        "model_id": CHILD,
        "parent": "0" * 12,
    }
    (swap,) = session.inputs()
    assert swap.model_id == entry.model_id  # what links the two
    assert verify(Replay(session, open_fake)).difference == ""


def test_the_workers_folder_may_go_afterwards(desk, tmp_path, child):
    training = a_training(tmp_path / "work", child.bundle)
    recorder = desk.start()
    folder = recorder.adaptation(a_handover(training)).result(60)
    before = files_of(recorder.folder / "models")
    shutil.rmtree(training)
    (recorded,) = adaptations.adaptations(recorder.folder)
    assert recorded.snapshot == folder / "snapshot.npz"
    assert recorded.snapshot.stat().st_size > 0
    assert files_of(recorder.folder / "models") == before


def test_rejected_and_failed_ones_are_kept_in_order_without_a_model(desk, tmp_path, child):
    recorder = desk.start()
    rejected = a_handover(a_training(tmp_path / "a", None))
    failed = a_handover(a_training(tmp_path / "b", None), failure="killed by signal 9")
    shutil.rmtree(failed.out)
    accepted = a_handover(a_training(tmp_path / "c", child.bundle))
    futures = [recorder.adaptation(handover) for handover in (rejected, failed, accepted)]
    assert [future.result(60).name for future in futures] == ["001", "002", "003"]
    recorder.stop()
    assert recorder.join(60)
    entries = read_info(recorder.folder).adaptations
    assert [entry.parent for entry in entries] == ["0" * 12, PARENT, "0" * 12]  # of a failure as the job has it
    assert [(entry.accepted, entry.reason, entry.model_id) for entry in entries] == [
        (False, "no better than its parent", None),
        (False, "killed by signal 9", None),
        (True, "better", CHILD),
    ]
    recorded = adaptations.adaptations(recorder.folder)
    assert [(one.is_accepted, one.has_failed) for one in recorded] == [(False, False), (False, True), (True, False)]
    assert [one.entry for one in recorded] == list(entries)
    assert sorted(path.name for path in (recorder.folder / "models").iterdir()) == [PARENT, CHILD]


def test_what_cannot_be_kept_is_told_and_the_log_goes_on(desk, tmp_path, child):
    broken = a_training(tmp_path / "work", child.bundle)
    (broken / "out" / "bundle" / "encoder.onnx").write_bytes(b"another")
    recorder = desk.start()
    assert recorder.adaptation(a_handover(broken)).result(60) is None
    desk.wait_for("recording.incomplete")
    assert recorder.adaptation(a_handover(tmp_path / "nothing")).result(60) is None
    good = recorder.adaptation(a_handover(a_training(tmp_path / "good", child.bundle))).result(60)
    assert good.name == "003"
    recorder.input(some_faces(0))
    recorder.stop()
    assert recorder.join(60)
    told = [notice.fields["reason"] for notice in desk.notices if notice.subject == "recording.incomplete"]
    assert "adaptation 001 cannot be kept" in told[0]
    assert "sha256" in told[0]
    assert "adaptation 002 cannot be kept: No such file" in told[1]
    assert desk.stopped().fields["failed"] is False
    info = read_info(recorder.folder)
    assert (info.finished.inputs, [entry.number for entry in info.adaptations]) == (1, ["003"])


def test_a_nearly_full_disk_keeps_no_adaptation_and_the_log(desk, tmp_path, child):
    room = 1e9
    outside = Outside(free_bytes=lambda _: int(room))
    recorder = desk.start(outside, min_free_gb=1.0 - 1e-9)  # room for records, not for a snapshot
    assert recorder.adaptation(a_handover(a_training(tmp_path / "work", child.bundle))).result(60) is None
    desk.wait_for("recording.incomplete")
    assert recorder.is_recording
    assert not (recorder.folder / "adaptations").exists()


def test_it_never_holds_up_the_log(desk, tmp_path, child, monkeypatch):
    """Records are on the disk while a copy hangs, and the session is finished although it never ends."""
    go_on = threading.Event()
    really = adaptations.keep
    monkeypatch.setattr(adaptations, "keep", lambda *given: go_on.wait(60) and really(*given))
    monkeypatch.setattr("psm_stream.record.writer._COPIES_END_S", 0.05)
    recorder = desk.start()
    future = recorder.adaptation(a_handover(a_training(tmp_path / "work", child.bundle)))
    recorder.input(some_faces(0))
    recorder.stop()
    assert recorder.join(60)
    session = Session(recorder.folder)
    assert (session.is_finished, session.info.finished.inputs, session.info.adaptations) == (True, 1, ())
    go_on.set()
    assert future.result(60) is not None


def test_the_end_waits_for_a_copy_and_lists_it(desk, tmp_path, child, monkeypatch):
    really = adaptations.keep
    is_finished = threading.Event()

    def once_finished(*given):
        assert is_finished.wait(60)
        return really(*given)

    def written(folder, info):
        write_info(folder, info)
        if info.finished is not None:
            is_finished.set()

    from psm_stream.record import session

    write_info = session.write_info
    monkeypatch.setattr(adaptations, "keep", once_finished)
    monkeypatch.setattr(session, "write_info", written)
    recorder = desk.start()
    recorder.adaptation(a_handover(a_training(tmp_path / "work", child.bundle)))
    recorder.stop()
    assert recorder.join(60)
    assert [entry.number for entry in read_info(recorder.folder).adaptations] == ["001"]


def test_after_the_end_nothing_is_kept(desk, tmp_path, child):
    recorder = desk.start()
    recorder.stop()
    assert recorder.adaptation(a_handover(a_training(tmp_path / "work", child.bundle))).result(60) is None
    assert recorder.join(60)
    assert not (recorder.folder / "adaptations").exists()


def test_a_model_that_ran_brings_its_weights(desk, child):
    a_checkpoint(desk.encoder.bundle.folder / "checkpoint", seed=1)
    a_checkpoint(child.bundle.folder / "checkpoint", seed=2)
    recorder = desk.start()
    recorder.input(SwapEncoder(child, "adapt"))
    recorder.stop()
    assert recorder.join(60)
    for encoder in (desk.encoder, child):
        assert files_of(recorder.folder / "models" / encoder.model_id) == files_of(encoder.bundle.folder)


def test_changed_weights_are_told_and_not_kept(desk):
    a_checkpoint(desk.encoder.bundle.folder / "checkpoint", seed=1)
    (desk.encoder.bundle.folder / "checkpoint" / "encoder.safetensors").write_bytes(b"another")
    recorder = desk.start()
    desk.wait_for("recording.incomplete")
    recorder.stop()
    assert recorder.join(60)
    assert sorted(path.name for path in (recorder.folder / "models" / PARENT).iterdir()) == [
        "encoder.onnx",
        "manifest.json",
    ]
    assert desk.stopped().fields["failed"] is False


def test_weights_are_found_inside_a_bundle_and_beside_the_workers(tmp_path, child):
    training = a_training(tmp_path / "work", child.bundle)
    assert checkpoint_of(training / "out" / "bundle") == training / "out" / "checkpoint"
    a_checkpoint(tmp_path / "bundles" / "checkpoint", seed=0)
    assert checkpoint_of(child.bundle.folder) is None  # what lies beside any other bundle is not its own
    a_checkpoint(child.bundle.folder / "checkpoint", seed=0)
    assert checkpoint_of(child.bundle.folder) == child.bundle.folder / "checkpoint"


@pytest.mark.parametrize("files", [None, {}, {"../../evil": "0" * 64}, {"a.pt": "0" * 64}, ["encoder.safetensors"]])
def test_a_checkpoint_that_is_none_is_refused(tmp_path, files):
    a_checkpoint(tmp_path / "checkpoint", seed=0)
    (tmp_path / "checkpoint" / "checkpoint.json").write_text(json.dumps({"schema": 1, "files": files}))
    (tmp_path / "s" / "models" / CHILD).mkdir(parents=True)
    with pytest.raises(SessionError, match="not a checkpoint"):
        keep_checkpoint(tmp_path / "checkpoint", tmp_path / "s", CHILD)
    assert list((tmp_path / "s" / "models").rglob("*")) == [tmp_path / "s" / "models" / CHILD]


@pytest.mark.parametrize("name", ["job.json", "adaptation.json"])
@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "damaged"), ("[]", "JSON object"), ('{"schema": 2}', "install a newer"), (None, "cannot")],
)
def test_a_damaged_one_is_one_line(tmp_path, child, name, content, says):
    keep(a_handover(a_training(tmp_path / "work", child.bundle)), tmp_path / "s", "001")
    path = tmp_path / "s" / "adaptations" / "001" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(SessionError, match=says) as refusal:
        adaptations.adaptations(tmp_path / "s")
    assert "\n" not in str(refusal.value)


def test_where_links_are_not_to_be_had_the_snapshot_is_copied(tmp_path, child, monkeypatch):
    def no_links(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    training = a_training(tmp_path / "work", child.bundle)
    recorded = keep(a_handover(training), tmp_path / "s", "001")
    assert recorded.snapshot.read_bytes() == (training / "snapshot.npz").read_bytes()


KEEPS_AND_DIES = """
import os, signal, sys
from pathlib import Path
from psm_stream.record import adaptations
from psm_stream.record.testing import RUN, a_training, fake_encoder, record_run, some_faces

root, last = Path(sys.argv[1]), int(sys.argv[2])
encoder = fake_encoder(root / "bundles", "0123456789ab")
child = fake_encoder(root / "bundles", "111111111111")
folder = record_run(root, encoder, [some_faces(0)])
print(folder, flush=True)
training = a_training(root / "work", child.bundle)
steps = [0]

def die_at_the_last(event, given):
    if event in ("os.rename", "os.mkdir", "os.link") or (event == "open" and "x" in str(given[1])):
        steps[0] += 1
        if steps[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die_at_the_last)
adaptations.keep(adaptations.Handover(training / "snapshot.npz", training / "out"), folder, "001")
print("kept", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_in_the_middle_of_any_step_the_session_opens_and_verifies(tmp_path):
    """A process that is killed before its n-th step on the disk, for every n until it comes through."""
    for last in range(1, 40):
        root = tmp_path / str(last)
        command = [sys.executable, "-c", KEEPS_AND_DIES, str(root), str(last)]
        child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        said = child.stdout.split()
        session = Session(Path(said[0]))
        assert verify(Replay(session, open_fake)).difference == ""
        kept = adaptations.adaptations(session.folder)
        for recorded in kept:
            model = session.model_folder(recorded.text("model_id"))
            assert open_bundle(model).manifest.model_id == CHILD
            assert checkpoint_of(model) == model / "checkpoint"
        if len(said) > 1:
            assert len(kept) == 1
            assert last > 6
            return
        assert child.returncode == -signal.SIGKILL, child.stderr
    raise AssertionError("it never came through")
