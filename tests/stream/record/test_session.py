"""Session folders are never shared or reused, and info.json is whole or refused in one line."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from psm_stream.bundle import open_bundle
from psm_stream.errors import DigestMismatch, SessionError
from psm_stream.record import session
from psm_stream.record.session import ClockPair, SessionInfo, new_numbered, new_session_folder, read_info, write_info
from psm_stream.record.testing import fake_encoder


def an_info(**changes):
    fields = {
        "uuid": session.new_uuid(),
        "run": "ab" * 16,
        "started": ClockPair(monotonic=100.0, unix=1.7e9),
        "source": "fake",
        "provider": "CPUExecutionProvider",
        "models": ("0123456789ab",),
        "config": {"source": {"kind": "demo"}},
        "versions": {"psm-stream": "0"},
    }
    return SessionInfo(**(fields | changes))


def test_a_session_folder_is_named_by_local_date_and_counts_from_001(tmp_path):
    unix = time.mktime((2031, 2, 3, 23, 59, 0, 0, 0, -1))
    folders = [new_session_folder(tmp_path, unix) for _ in range(2)]
    assert folders == [tmp_path / "2031-02-03" / "001", tmp_path / "2031-02-03" / "002"]


def test_numbers_go_on_after_the_highest_and_past_999(tmp_path):
    (tmp_path / "007").mkdir()
    (tmp_path / "notes").mkdir()
    assert new_numbered(tmp_path).name == "008"
    (tmp_path / "999").mkdir()
    assert new_numbered(tmp_path).name == "1000"


def test_a_file_that_holds_the_number_is_left_alone(tmp_path):
    (tmp_path / "001").write_text("mine")
    assert new_numbered(tmp_path).name == "002"
    assert (tmp_path / "001").read_text() == "mine"


def _claim(root: str, barrier, claimed) -> None:
    barrier.wait()
    claimed.put([str(new_session_folder(Path(root), 1.7e9)) for _ in range(20)])


def test_processes_that_race_for_a_number_never_share_one(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, claimed = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_claim, args=(str(tmp_path), barrier, claimed)) for _ in range(4)]
    for racer in racers:
        racer.start()
    folders = [folder for _ in racers for folder in claimed.get(timeout=60)]
    for racer in racers:
        racer.join(60)
    assert len(set(folders)) == len(folders) == 80
    assert sorted(int(Path(folder).name) for folder in folders) == list(range(1, 81))


def test_a_root_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match=r"cannot make a folder in .*file.*; name one that can be written"):
        new_session_folder(tmp_path / "file", 1.7e9)


def test_info_comes_back_as_it_was_written(tmp_path):
    info = an_info(name="Probe 1 ü", config={"nested": {"list": [1, 2.5, None], "text": "x"}})
    write_info(tmp_path, info)
    assert read_info(tmp_path) == info
    assert json.loads((tmp_path / "info.json").read_text())["schema"] == 1


def test_replacing_info_leaves_the_old_one_whole_until_the_new_one_is(tmp_path, monkeypatch):
    old = an_info()
    write_info(tmp_path, old)
    monkeypatch.setattr(os, "fsync", _disk_error)
    with pytest.raises(OSError, match="no disk"):
        write_info(tmp_path, an_info(name="new"))
    assert read_info(tmp_path) == old


def _disk_error(_handle):
    raise OSError("no disk")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"[]", "not a session's"),
        (b"{}", "not a session's"),
        (b'{"schema": 2}', "schema 2.*install a newer"),
        (b'{"schema": "1"}', "not a session's"),
        (b'{"schema": 1, "uuid": "../../etc"}', "not a session's: uuid"),
    ],
)
def test_a_foreign_or_damaged_info_is_one_line(tmp_path, content, says):
    (tmp_path / "info.json").write_bytes(content)
    with pytest.raises(SessionError, match=says) as refusal:
        read_info(tmp_path)
    assert "\n" not in str(refusal.value)


def test_an_info_of_absurd_size_is_not_loaded(tmp_path):
    with (tmp_path / "info.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(SessionError, match="larger than"):
        read_info(tmp_path)


def test_a_folder_above_sessions_names_one_of_them(tmp_path):
    folder = new_session_folder(tmp_path, 1.7e9)
    write_info(folder, an_info())
    for above in (tmp_path, folder.parent):
        with pytest.raises(SessionError) as refusal:
            read_info(above)
        assert str(folder) in str(refusal.value)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(SessionError, match="does not exist"):
        read_info(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="is a file"):
        read_info(tmp_path / "file")


def test_a_bundle_is_copied_whole_and_once(tmp_path):
    bundle = fake_encoder(tmp_path, "0123456789ab").bundle
    (bundle.folder / "notes.txt").write_text("not named in the manifest")
    session.copy_bundle(bundle, tmp_path / "s")
    (bundle.folder / "encoder.onnx").write_bytes(b"changed later")
    session.copy_bundle(bundle, tmp_path / "s")
    copied = tmp_path / "s" / "models" / "0123456789ab"
    assert open_bundle(copied).manifest == bundle.manifest
    assert sorted(path.name for path in copied.iterdir()) == ["encoder.onnx", "manifest.json"]
    assert [path.name for path in copied.parent.iterdir()] == ["0123456789ab"]


def test_a_bundle_that_changed_since_it_was_opened_is_not_kept_as_what_it_was(tmp_path):
    bundle = fake_encoder(tmp_path, "0123456789ab").bundle
    (bundle.folder / "encoder.onnx").write_bytes(b"another")
    with pytest.raises(DigestMismatch):
        session.copy_bundle(bundle, tmp_path / "s")
    assert not (tmp_path / "s" / "models" / "0123456789ab").exists()


@pytest.mark.parametrize("model_id", ["", "..", "../../../etc", "0123456789AB", "0123456789ab/x", "0123456789abc"])
def test_a_model_id_that_is_not_one_never_becomes_a_path(tmp_path, model_id):
    with pytest.raises(SessionError, match="12 hex digits"):
        session.model_folder(tmp_path, model_id)


def test_credentials_are_blotted_out_wherever_they_stand():
    tree = {"rtsp": "rtsp://me:secret@cam/1", "list": ["see http://a:b@c and rtsp://d@e"], "n": 3, "plain": "a@b"}
    assert session.redacted(tree) == {
        "rtsp": "rtsp://***@cam/1",
        "list": ["see http://***@c and rtsp://***@e"],
        "n": 3,
        "plain": "a@b",
    }


def test_clock_pair_maps_monotonic_time_to_unix_nanoseconds():
    pair = ClockPair(monotonic=100.0, unix=1000.0)
    assert pair.unix_ns(100.5) == 1000_500_000_000
    assert pair.unix_ns(float("nan")) == 0
    assert pair.unix_ns(-1e9) == 0
    assert pair.unix_ns(float("inf")) == 0
