"""Adaptation in a live run: real threads, processes, sockets and encoders; source, aligner and training are fakes."""

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.processes import own_children
from tests.stream.live_runs import GENERAL, PATIENCE_S, Feed, Heard, a_live, running

from psm_export import facecycle
from psm_export.untrained import draw_weights
from psm_export.write import Description, write_bundle
from psm_stream.adaptation.attempt import Said
from psm_stream.adaptation.events import PHASES
from psm_stream.adaptation.plan import Plan
from psm_stream.adaptation.testing import fake_worker
from psm_stream.bundle import Parity, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.live import Live
from psm_stream.record.adaptations import adaptations
from psm_stream.record.reader import Session
from psm_stream.record.testing import a_checkpoint
from psm_stream.replay import Replay, model_opener
from psm_stream.testing import FakeSource
from psm_stream.values import SwapEncoder
from psm_stream.verify import verify

CAPACITY = 8
EXACT = Parity(reference="itself", crops=0, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=1e-4)


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models as a worker leaves them, of the general encoder's architecture."""
    folders = [tmp_path_factory.mktemp("model") / "bundle" for _ in range(2)]
    for seed, folder in enumerate(folders):
        about = Description(f"model {seed}", "a test", "FaceCycle", "inside", "fp32", False, "MIT", "a test", {})
        write_bundle(folder, facecycle.build_model(draw_weights(seed=seed)), about, EXACT)
        a_checkpoint(folder / "checkpoint", seed)
    return folders


def id_of(folder: Path) -> str:
    return open_bundle(folder).manifest.model_id


GENERAL_ID = GENERAL.manifest.model_id


class Adapting:
    """A run that adapts with a fake worker, and gets its frames one by one, or by itself once it `flows`."""

    def __init__(self, *worker: str, mode: str = "auto", command: tuple[str, ...] = (), **settings) -> None:
        self.feed = Feed()
        plan = Plan(mode, "a test", command or tuple(fake_worker(*worker)))
        source = FakeSource(self.feed, is_live=False)
        self.live: Live = a_live(source, plan=plan, **{"faces__capacity": CAPACITY, **settings})
        self.heard = self.live.outlet.publisher = Heard(self._go_on)
        self.is_flowing = False

    def _go_on(self, message) -> None:
        if self.is_flowing and message.topic == "embedding.00":
            self.feed.frames(1)

    def flow(self) -> None:
        """From now on each published face brings the next frame."""
        self.is_flowing = True
        self.feed.frames(1)

    def frames(self, count: int) -> None:
        """Give frames, and wait until they are published."""
        self.feed.frames(count)
        self.heard.wait_for("latest.00", self.feed.given)

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, self.live.adapter.status()
            time.sleep(0.01)

    def until_state(self, state: str) -> None:
        self.until(lambda: self.live.adapter.status()["state"] == state)

    def check_models(self, *ids: str) -> None:
        """Every face is by the model that the swaps name, without a gap, and no message mixes two."""
        swaps = self.heard.headers("notify.model.swapped")
        assert [swap["old"] for swap in swaps] + [swaps[-1]["new"]] == list(ids)
        starts = [swap["frame_index"] for swap in swaps]
        for topic in ("embedding.00", "latest.00"):
            headers = self.heard.headers(topic)
            assert [header["frame_index"] for header in headers] == list(range(len(headers)))
            for header in headers:
                epoch = sum(header["frame_index"] >= start for start in starts)
                assert (header["model_id"], header["model_epoch"]) == (ids[epoch], epoch)


def no_process_and_no_folder(home: Path) -> bool:
    return own_children() == [] and list((home / "work").glob("*")) == []


def test_the_first_full_buffer_brings_a_model_and_the_recording_verifies(
    models: list[Path], psm_home: Path, tmp_path: Path
) -> None:
    run = Adapting("--bundle", str(models[0]), record__root=str(tmp_path / "sessions"))
    with running(run.live):
        run.frames(CAPACITY - 1)
        assert run.live.adapter.status()["state"] == "idle"
        run.flow()
        started = run.heard.wait_for("notify.adapt.started")
        swapped = run.heard.wait_for("notify.model.swapped")
        run.heard.wait_for("latest.00", swapped["frame_index"] + 3)
        (work,) = (psm_home / "work").iterdir()
        assert work.stat().st_mode & 0o777 == 0o700
    assert (started["trigger"], started["epochs"], started["person"]) == ("first fill", 2, "")
    run.check_models(GENERAL_ID, id_of(models[0]))
    assert swapped["reason"] == "adapt"
    (done,) = run.heard.headers("notify.adapt.done")
    assert (done["model_id"], done["loss_before"], done["figures"]) == (id_of(models[0]), 0.5, {"rank": 11.0})
    phases = [header["phase"] for header in run.heard.headers("notify.adapt.progress")]
    assert phases == list(PHASES)
    assert str(psm_home) not in str([run.heard.headers(f"notify.adapt.{what}") for what in ("started", "done")])
    (entry,) = run.live.final["adaptations"]
    assert (entry["accepted"], entry["model_id"], entry["loss_after"]) == (True, id_of(models[0]), 0.4)
    assert set(entry) == {
        *("model_id", "parent", "frames", "epochs", "seconds", "accepted", "reason"),
        *("loss_before", "loss_after", "recipe", "device", "stopped"),
    }
    assert run.live.final["model_ids"] == [GENERAL_ID, id_of(models[0])]
    assert no_process_and_no_folder(psm_home)
    (folder,) = (tmp_path / "sessions").glob("*/001")
    session = Session(folder)
    verdict = verify(Replay(session, model_opener(session.info)))
    assert not verdict.difference
    assert verdict.embeddings == len(run.heard.headers("embedding.00"))
    (recorded,) = adaptations(folder)
    assert (recorded.is_accepted, recorded.job["base"], recorded.job["parent"]) == (True, "general", GENERAL_ID)
    assert run.heard.headers("notify.recording.incomplete") == []


def test_a_rejected_model_is_not_taken_and_the_reason_is_published(psm_home: Path) -> None:
    run = Adapting("--end", "rejected")
    with running(run.live):
        run.frames(CAPACITY)
        rejected = run.heard.wait_for("notify.adapt.rejected")
        run.frames(20)
        assert run.live.adapter.status()["state"] == "idle"  # too early to try again
    assert rejected["reason"] == "no better than its parent on held-out frames"
    assert (rejected["loss_before"], rejected["loss_after"], rejected["retry_s"]) == (0.5, 0.6, 60.0)
    assert run.live.final["model_ids"] == [GENERAL_ID]
    (entry,) = run.live.final["adaptations"]
    assert (entry["accepted"], entry["reason"]) == (False, rejected["reason"])
    assert no_process_and_no_folder(psm_home)


@pytest.mark.parametrize("place", ["start", "started", *PHASES])
def test_a_worker_that_is_killed_is_reported_and_the_stream_goes_on(place: str, psm_home: Path, tmp_path: Path) -> None:
    run = Adapting("--at", place, "--do", "die", record__root=str(tmp_path / "sessions"))
    with running(run.live):
        run.frames(CAPACITY)
        failed = run.heard.wait_for("notify.adapt.failed")
        run.frames(3)
    assert "killed by signal 9" in failed["reason"]
    assert failed["retry_s"] == 60.0
    (entry,) = run.live.final["adaptations"]
    assert (entry["accepted"], entry["reason"], entry["parent"]) == (False, failed["reason"], GENERAL_ID)
    assert run.live.final["exit"] == 0
    assert no_process_and_no_folder(psm_home)
    (recorded,) = adaptations(next((tmp_path / "sessions").glob("*/001")))
    assert recorded.has_failed


def test_a_model_that_cannot_be_opened_is_a_failure(models: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("manifest.json", "encoder.onnx"):
        (broken / name).write_bytes((models[0] / name).read_bytes())
    (broken / "encoder.onnx").write_bytes(b"another")
    run = Adapting("--bundle", str(broken))
    with running(run.live):
        run.frames(CAPACITY)
        failed = run.heard.wait_for("notify.adapt.failed")
        run.frames(1)
    assert failed["reason"].startswith("the new model cannot be opened: ")
    (entry,) = run.live.final["adaptations"]
    assert not entry["accepted"]
    assert entry["reason"].endswith(failed["reason"])
    assert run.live.final["model_ids"] == [GENERAL_ID]


def test_a_worker_that_is_not_there_is_a_failure() -> None:
    run = Adapting(command=("/no/such/program",))
    with running(run.live):
        run.frames(CAPACITY)
        assert "could not be run" in run.heard.wait_for("notify.adapt.failed")["reason"]


def test_wrong_arguments_are_not_tried_again() -> None:
    """What psm-adapt worker says of a recipe with an unknown key."""
    said = json.dumps({"event": "failed", "reason": "unknown config key 'run.epochz'; did you mean 'run.epochs'?"})
    command = (sys.executable, "-c", f"print({said!r}); raise SystemExit(2)")
    run = Adapting(command=command, adaptation__backoff_s=0.01)
    with running(run.live) as control:
        run.frames(CAPACITY)
        failed = run.heard.wait_for("notify.adapt.failed")
        run.frames(20)
        assert (run.live.adapter.status()["state"], run.live.adapter.status()["paused"]) == ("idle", True)
        assert len(run.heard.headers("notify.adapt.failed")) == 1
        assert control.send("C").startswith("OK")
        assert not run.live.adapter.status()["paused"]
    assert failed["reason"].startswith("unknown config key 'run.epochz'")
    assert failed["reason"].endswith("; nothing starts by itself before C")
    assert math.isnan(failed["retry_s"])


def test_freeze_holds_a_model_until_thaw(models: list[Path], tmp_path: Path) -> None:
    run = Adapting("--bundle", str(models[0]), "--wait", str(tmp_path / "go"))
    with running(run.live) as control:
        run.frames(CAPACITY)
        run.heard.wait_for("notify.adapt.started")
        assert control.send("FREEZE") == "OK"
        (tmp_path / "go").touch()
        run.until_state("ready")
        run.frames(5)
        (waiting,) = run.heard.headers("notify.adapt.waiting")
        assert (waiting["model_id"], waiting["until"]) == (id_of(models[0]), "THAW")
        assert run.heard.headers("notify.model.swapped") == []
        assert control.send("REVERT").startswith("ERROR frozen")
        assert control.send("THAW") == "OK"
        run.frames(2)
    run.check_models(GENERAL_ID, id_of(models[0]))
    (swap,) = run.heard.headers("notify.model.swapped")
    assert swap["frame_index"] == CAPACITY + 5


def test_an_order_before_the_next_frame_comes_first(models: list[Path], tmp_path: Path) -> None:
    """However long the next frame takes: a camera may be gone."""
    run = Adapting("--bundle", str(models[0]), mode="manual", record__root=str(tmp_path / "sessions"))
    with running(run.live) as control:
        run.frames(CAPACITY)
        assert control.send("C").startswith("OK")
        run.until_state("ready")
        assert control.send("FREEZE") == "OK"
        run.frames(3)
        assert control.send("THAW") == "OK"
        assert control.send("REVERT") == "OK the general encoder runs already; the new model is not taken"
        run.frames(3)
    assert run.heard.headers("notify.model.swapped") == []
    assert run.live.final["model_ids"] == [GENERAL_ID]
    assert run.heard.headers("notify.adapt.failed")[0]["reason"] == "stopped by REVERT"
    (folder,) = (tmp_path / "sessions").glob("*/001")
    session = Session(folder)
    assert not verify(Replay(session, model_opener(session.info))).difference


def test_nothing_starts_while_frozen() -> None:
    run = Adapting()
    with running(run.live) as control:
        assert control.send("FREEZE") == "OK"
        run.frames(CAPACITY + 2)
        assert control.send("C") == "ERROR frozen: nothing is adapted; send THAW first"
        assert run.live.adapter.status()["state"] == "idle"
        assert control.send("THAW") == "OK"
        run.heard.wait_for("notify.adapt.started")


def test_revert_acts_at_the_next_frame_and_pauses_until_asked(models: list[Path]) -> None:
    run = Adapting("--bundle", str(models[0]), adaptation__min_new_faces=1, adaptation__every_s=0.001)
    with running(run.live) as control:
        run.frames(CAPACITY)
        run.until_state("ready")
        run.frames(1)
        control.send("c")  # whatever the rule of a millisecond started
        run.frames(3)
        assert control.send("REVERT") == f"OK {GENERAL_ID} is taken at the next frame"
        run.frames(20)
        assert len(run.heard.headers("notify.adapt.started")) <= 2
        assert (run.live.adapter.status()["state"], run.live.adapter.status()["paused"]) == ("idle", True)
        assert control.send("REVERT") == "OK the general encoder runs already"
        assert control.send("C").startswith("OK")
        assert not run.live.adapter.status()["paused"]
    run.check_models(GENERAL_ID, id_of(models[0]), GENERAL_ID)
    assert run.heard.headers("notify.model.swapped")[1]["frame_index"] == CAPACITY + 4


def test_revert_stops_a_training(models: list[Path], psm_home: Path, tmp_path: Path) -> None:
    run = Adapting("--bundle", str(models[0]), "--wait", str(tmp_path / "never"))
    with running(run.live) as control:
        run.frames(CAPACITY)
        run.heard.wait_for("notify.adapt.started")
        assert control.send("REVERT") == "OK the general encoder runs already; training is stopped"
        failed = run.heard.wait_for("notify.adapt.failed")
        run.until(lambda: own_children() == [])
        run.frames(3)
    assert failed["reason"] == "stopped by REVERT"
    assert math.isnan(failed["retry_s"])
    assert run.live.final["model_ids"] == [GENERAL_ID]
    assert no_process_and_no_folder(psm_home)


def test_orders_start_and_stop_it(models: list[Path], tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = Adapting("--bundle", str(models[0]), "--wait", str(go), mode="manual")
    with running(run.live) as control:
        run.frames(CAPACITY - 1)
        assert control.send("C") == f"ERROR {CAPACITY - 1} faces so far; {CAPACITY} are needed"
        run.frames(5)
        assert control.send("c") == "ERROR nothing is being adapted"
        assert control.send("C") == f"OK {CAPACITY} faces"
        run.heard.wait_for("notify.adapt.started")
        assert control.send("C") == "ERROR an adaptation runs already: training"
        assert control.send("c") == "OK stopped"
        assert run.heard.wait_for("notify.adapt.failed")["reason"] == "stopped by order"
        go.touch()
        assert control.send("C").startswith("OK")
        run.until_state("ready")
        run.frames(1)
    assert run.heard.headers("notify.adapt.started")[0]["trigger"] == "asked to"
    assert [entry["accepted"] for entry in run.live.final["adaptations"]] == [False, True]
    run.check_models(GENERAL_ID, id_of(models[0]))


def test_off_is_off() -> None:
    run = Adapting(mode="off")
    with running(run.live) as control:
        run.frames(CAPACITY + 2)
        assert control.send("C") == "ERROR adaptation is off: a test"
        assert run.live.adapter.status()["state"] == "idle"


@pytest.mark.parametrize("how", ["deaf", "frozen", "training", "opening"])
def test_the_end_of_a_run_leaves_no_process_and_no_folder(
    how: str, models: list[Path], psm_home: Path, tmp_path: Path
) -> None:
    worker = {
        "deaf": ["--at", "training", "--do", "be-deaf"],
        "frozen": ["--at", "training", "--do", "freeze"],
        "training": ["--wait", str(tmp_path / "never")],
        "opening": [],
    }[how]
    run = Adapting("--bundle", str(models[0]), *worker)
    with running(run.live):
        run.frames(CAPACITY)
        run.heard.wait_for("notify.adapt.done" if how == "opening" else "notify.adapt.progress")
    (entry,) = run.live.final["adaptations"]
    verdict = "better on held-out frames; but it is not taken: the run ended" if how == "opening" else "the run ended"
    assert (entry["accepted"], entry["reason"]) == (how == "opening", verdict)
    assert run.heard.headers("notify.adapt.failed")[0]["stopped"]
    assert no_process_and_no_folder(psm_home)
    assert run.live.final["exit"] == 0


def test_twenty_swaps_leak_neither_threads_nor_files(models: list[Path], psm_home: Path, tmp_path: Path) -> None:
    next_model = tmp_path / "next"
    run = Adapting("--bundle", str(next_model), mode="manual")
    counts: list[tuple[int, int]] = []
    with running(run.live) as control:
        run.frames(CAPACITY)
        run.flow()
        for number in range(20):
            next_model.unlink(missing_ok=True)
            next_model.symlink_to(models[number % 2])
            assert control.send("C").startswith("OK")
            run.heard.wait_for("notify.model.swapped", number + 1)
            run.until(lambda: not {"discard", "loader", "worker"} & {thread.name for thread in threading.enumerate()})
            counts.append((threading.active_count(), len(os.listdir("/proc/self/fd"))))
        run.is_flowing = False
        (work,) = (psm_home / "work").iterdir()
        assert len(list((work / "models").iterdir())) == 3
        assert not list(work.glob("0*"))
    run.check_models(GENERAL_ID, *(id_of(models[number % 2]) for number in range(20)))
    # a file that somebody else just has open may count, once; what a swap leaves behind counts in all that follow
    least = [tuple(min(column) for column in zip(*part, strict=True)) for part in (counts[1:10], counts[10:])]
    assert least[0] == least[1]
    assert all(entry["accepted"] for entry in run.live.final["adaptations"])
    assert no_process_and_no_folder(psm_home)


def test_what_comes_late_of_a_stopped_adaptation_is_left_lying(models: list[Path]) -> None:
    run = Adapting(mode="manual")
    with running(run.live):
        run.frames(3)
        run.live.adapter.take(Said(7, SwapEncoder(open_encoder(open_bundle(models[0]), "cpu"), "adapt")))
        run.frames(3)
    assert run.live.final["model_ids"] == [GENERAL_ID]


def test_progress_is_published_at_most_once_a_second(tmp_path: Path) -> None:
    run = Adapting("--wait", str(tmp_path / "go"))
    with running(run.live):
        run.frames(CAPACITY)
        progress = run.heard.wait_for("notify.adapt.progress", 4)  # the worker says fifty a second
        run.until(lambda: "adapting" in run.heard.stats()[-1] and run.heard.stats()[-1]["adapting"]["epochs"] == 2)
        standing = run.heard.stats()[-1]["adapting"]
        (tmp_path / "go").touch()
    assert (progress["phase"], standing["state"], standing["phase"]) == ("training", "training", "training")
    headers = run.heard.headers("notify.adapt.progress")
    for one, other in pairwise(headers):
        is_new = (one["phase"], one["epoch"]) != (other["phase"], other["epoch"])
        assert is_new or other["t_notice"] - one["t_notice"] >= 1.0
