"""Adaptation workers as real processes: however one misbehaves, one last event comes, and nothing is left of it."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.processes import own_children

from psm_stream.adaptation.events import PHASES, Done, Failed, Progress, Rejected, Started, WorkerEvent
from psm_stream.adaptation.testing import fake_worker
from psm_stream.adaptation.worker import FAREWELL_S, GRACE_S, PATIENCE_S, WorkerProcess
from psm_stream.testing import ManualClock

PATIENT_S = 60
"""How long a test waits for what must come at once."""
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
PLACES = ("start", "started", *PHASES)


class Run:
    """One worker and what it said; the clock stands still until a test moves it."""

    def __init__(self, folder: Path, *arguments: str, command: list[str] | None = None) -> None:
        self.clock = ManualClock()
        self.told: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
        self.events: list[WorkerEvent] = []
        self.log = folder / "worker.log"
        self.worker = WorkerProcess(
            command or fake_worker("--out", str(folder / "out"), *arguments),
            self.told.put,
            clock=self.clock,
            silence_s=60.0,
            budget_s=180.0,
            log=self.log,
        )

    def until(self, wanted: Callable[[WorkerEvent], bool]) -> WorkerEvent:
        """Wait for an event."""
        while True:
            self.events.append(self.told.get(timeout=PATIENT_S))
            if wanted(self.events[-1]):
                return self.events[-1]

    def reach(self, place: str) -> None:
        """Wait until the worker is there."""
        if place == "started":
            self.until(lambda event: isinstance(event, Started))
        elif place != "start":
            self.until(in_phase(place))

    def end(self) -> Done | Rejected | Failed:
        """Wait for the end, and check that it is the only one."""
        self.until(lambda event: isinstance(event, Done | Rejected | Failed))
        assert self.worker.join(PATIENT_S)
        assert self.told.empty()
        (last,) = [event for event in self.events if isinstance(event, Done | Rejected | Failed)]
        return last

    def failure(self) -> str:
        end = self.end()
        assert isinstance(end, Failed)
        assert "\n" not in end.reason
        return end.reason


@contextmanager
def running(folder: Path, *arguments: str, command: list[str] | None = None) -> Iterator[Run]:
    """Start a worker; afterwards no process and no thread of it may be there."""
    run = Run(folder, *arguments, command=command)
    run.worker.start()
    try:
        yield run
    finally:
        run.worker.stop()
        deadline = time.monotonic() + PATIENT_S
        while not run.worker.join(0.05) and time.monotonic() < deadline:
            run.clock.now += 1e6  # whenever it looked at the clock, its patience is over
        assert run.worker.join(0)
    assert not run.worker.is_alive
    assert own_children() == []
    assert "worker" not in [thread.name for thread in threading.enumerate()]


def in_phase(phase: str) -> Callable[[WorkerEvent], bool]:
    return lambda event: isinstance(event, Progress) and event.phase == phase


def test_a_worker_that_works(tmp_path: Path) -> None:
    with running(tmp_path, "--base", "anna", "--seed", "7", "--person", "ben", "--budget", "90") as run:
        end = run.end()
    assert isinstance(end, Done)
    assert run.events[0] == Started("fake", "cpu", 24, 6, 2, 6, "anna", "ben", 7, 90.0)
    phases = [event.phase for event in run.events if isinstance(event, Progress)]
    assert phases == list(PHASES)
    assert (end.bundle, end.checkpoint) == (tmp_path / "out/bundle", tmp_path / "out/checkpoint")
    assert (end.outcome.parent, end.outcome.loss_before, end.outcome.loss_after) == ("anna", 0.5, 0.4)
    assert end.outcome.tree["figures"] == {"rank": 11.0}
    assert "bundle" not in end.outcome.tree


@pytest.mark.parametrize(("event", "kind", "why"), [("rejected", Rejected, "no better"), ("failed", Failed, "told to")])
def test_a_worker_that_says_no(tmp_path: Path, event: str, kind: type, why: str) -> None:
    with running(tmp_path, "--end", event) as run:
        end = run.end()
    assert type(end) is kind
    assert why in (end.reason if isinstance(end, Failed) else end.outcome.reason)


@POSIX
@pytest.mark.parametrize("place", PLACES)
def test_killed_in_every_phase(tmp_path: Path, place: str) -> None:
    with running(tmp_path, "--at", place, "--do", "die") as run:
        assert run.failure() == "killed by signal 9; perhaps out of memory"
    assert len(run.events) == PLACES.index(place) + 1


@POSIX
@pytest.mark.parametrize("place", PLACES)
def test_frozen_in_every_phase(tmp_path: Path, place: str) -> None:
    with running(tmp_path, "--at", place, "--do", "freeze") as run:
        run.reach(place)
        (process,) = _children(1)
        _until(lambda: process.status() == psutil.STATUS_STOPPED)
        run.clock.now += 59.0
        assert run.worker.is_alive
        run.clock.now += 2.0
        assert run.failure() == "killed: it was silent for 60 s"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("deed", ["be-silent", "be-deaf"])
def test_stopped_in_every_phase(tmp_path: Path, place: str, deed: str) -> None:
    with running(tmp_path, "--at", place, "--do", deed) as run:
        run.reach(place)
        if deed == "be-deaf":
            run.reach("training")  # told once it is deaf
        run.worker.stop()
        if deed == "be-deaf" and sys.platform != "win32":
            assert not run.worker.join(0.3)  # the clock stands: it may take its time
            run.clock.now += PATIENCE_S + 0.1
        assert run.end() == Failed("stopped", was_stopped=True)


def test_stopped_before_it_starts_and_after_it_ended(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert not run.worker.is_alive
    assert run.worker.join(0.0)
    run.worker.stop()
    run.worker.start()
    assert run.end() == Failed("stopped", was_stopped=True)
    assert list(tmp_path.iterdir()) == []
    with running(tmp_path) as run:
        assert isinstance(run.end(), Done)
        run.worker.stop()
        assert run.told.empty()


def test_a_result_that_came_after_stop_is_none(tmp_path: Path) -> None:
    """Who stops an adaptation does not want its model."""
    with running(tmp_path, "--at", "end", "--do", "be-silent") as run:
        run.reach("exporting")
        _until(lambda: '"event": "done"' in (tmp_path / "worker.events.jsonl").read_text())
        run.worker.stop()
        assert run.end() == Failed("stopped", was_stopped=True)


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        ("leave", "ended without a result"),
        ("leave-3", "ended with exit code 3"),
        ("raise", "ended with exit code 1: in two lines"),
        ("half-line", "ended without a result"),
        pytest.param("crash", "killed by signal 11 (SIGSEGV)", marks=POSIX),
        pytest.param("abort", "killed by signal 6 (SIGABRT)", marks=POSIX),
    ],
)
def test_an_early_end_is_a_failure_in_one_line(tmp_path: Path, deed: str, why: str) -> None:
    with running(tmp_path, "--at", "training", "--do", deed) as run:
        assert run.failure() == why
    assert ("Traceback" in run.log.read_text()) == (deed == "raise")


def test_a_little_garbage_is_passed_over(tmp_path: Path) -> None:
    """Text, JSON that is no event, deep nesting, bytes that are no UTF-8, and a line of 5 MB."""
    for deed in ("little-garbage", "huge-line"):
        folder = tmp_path / deed
        folder.mkdir()
        with running(folder, "--at", "training", "--do", deed) as run:
            assert isinstance(run.end(), Done)
        assert [type(event) for event in run.events] == [Started, *[Progress] * 4, Done]


def test_garbage_alone_is_a_failure(tmp_path: Path) -> None:
    with running(tmp_path, "--at", "training", "--do", "garbage") as run:
        why = run.failure()
    assert why.startswith("killed: it wrote more than 100 lines that are no events; the worker wrote 'loading weights")


def test_garbage_before_an_early_end_is_named(tmp_path: Path) -> None:
    with running(tmp_path, command=[sys.executable, "-c", "print('usage: something else')"]) as run:
        why = run.failure()
    assert why == "ended without a result; the worker wrote 'usage: something else', which is no line of JSON"


@pytest.mark.parametrize(("deed", "last"), [("much-text", ""), ("much-log", ": warning: the same again")])
def test_who_writes_without_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str, last: str
) -> None:
    monkeypatch.setattr("psm_stream.adaptation.worker.MAX_WRITTEN", 2 << 20)
    with running(tmp_path, "--at", "training", "--do", deed) as run:
        why = run.failure()
    assert why.startswith(f"killed: it wrote more than 2 MB of text{last[:3]}")


def test_a_log_larger_than_a_pipe_holds_stops_nobody(tmp_path: Path) -> None:
    with running(tmp_path, "--at", "reading", "--do", "log") as run:
        assert isinstance(run.end(), Done)
    assert run.log.stat().st_size > 1_000_000


def test_over_its_budget_it_is_killed_though_it_speaks(tmp_path: Path) -> None:
    with running(tmp_path, "--at", "training", "--do", "chatter") as run:
        run.reach("training")
        for _ in range(5):
            run.clock.now += 180 / 5
            heard = run.clock.now
            run.reach("training")
            _until_heard(run, heard)
        assert run.worker.is_alive
        run.clock.now += GRACE_S + 1
        assert run.failure() == "killed: its budget was 180 s, and 60 s later it still ran"


@pytest.mark.parametrize("deed", ["be-silent", "be-deaf", "chatter"])
def test_who_does_not_leave_after_its_result_is_killed_and_the_result_counts(tmp_path: Path, deed: str) -> None:
    with running(tmp_path, "--at", "end", "--do", deed) as run:
        run.reach("exporting")
        _until(lambda: '"event": "done"' in (tmp_path / "worker.events.jsonl").read_text())
        while run.worker.is_alive:
            run.clock.now += FAREWELL_S / 2
            run.worker.join(0.3)
        assert isinstance(run.end(), Done)


@POSIX
def test_killed_after_its_result_the_result_counts(tmp_path: Path) -> None:
    with running(tmp_path, "--at", "end", "--do", "die") as run:
        assert isinstance(run.end(), Done)


@POSIX
def test_a_child_of_the_worker_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds stdout open; nobody waits for it."""
    monkeypatch.chdir(tmp_path)
    with running(tmp_path, "--at", "training", "--do", "leave-a-child") as run:
        assert run.failure() == "killed by signal 9; perhaps out of memory"
        child = int((tmp_path / "child.pid").read_text())
        _until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_what_cannot_be_started_is_a_failure(tmp_path: Path) -> None:
    with running(tmp_path, command=[str(tmp_path / "nowhere")]) as run:
        assert "could not be run: [Errno 2] No such file or directory" in run.failure()
    with running(tmp_path / "no folder") as run:
        assert "could not be run: [Errno 2] No such file or directory" in run.failure()


def test_a_defect_beside_the_worker_ends_it_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: bytes) -> WorkerEvent:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("psm_stream.adaptation.worker.read_event", fails)
    with running(tmp_path, "--at", "training", "--do", "be-silent") as run:
        assert run.failure() == "unexpected ZeroDivisionError beside the worker: a defect"


@POSIX
def test_ctrl_c_in_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    with running(tmp_path, "--at", "training", "--do", "be-silent") as run:
        run.reach("training")
        (process,) = _children(1)
        assert os.getpgid(process.pid) == process.pid
        assert os.getsid(process.pid) == os.getsid(0)


@POSIX
def test_it_leaves_when_the_stream_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from psm_stream.adaptation.testing import fake_worker\n"
        "from psm_stream.adaptation.worker import WorkerProcess\n"
        "command = fake_worker('--at', 'training', '--do', 'be-silent')\n"
        "log = Path(sys.argv[1]) / 'worker.log'\n"
        "tell = lambda event: print(event, flush=True)\n"
        "WorkerProcess(command, tell, clock=time.monotonic, silence_s=60, budget_s=60, log=log).start()\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as stream:
        assert stream.stdout is not None
        next(line for line in stream.stdout if "training" in line)
        (process,) = psutil.Process(stream.pid).children()
        stream.kill()
        assert psutil.wait_procs([process], timeout=PATIENT_S)[1] == []


def test_thirty_runs_leave_nothing_open(tmp_path: Path) -> None:
    def files() -> int:
        this = psutil.Process()
        return this.num_fds() if sys.platform != "win32" else this.num_handles()

    deeds = ["", "leave", "raise"]
    before = 0
    for number in range(33):
        with running(tmp_path, "--at", "started", "--do", deeds[number % 3]) as run:
            run.end()
        if number == 2:
            before = files()
    assert files() == before


def _children(count: int) -> list[psutil.Process]:
    """Wait until so many processes of this one run."""
    _until(lambda: len(own_children()) == count)
    return own_children()


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENT_S
    while not is_so():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def _until_heard(run: Run, now: float) -> None:
    """Wait until the worker was heard at this time of the clock: a later silence starts from it."""
    for _ in range(20):
        run.reach("training")
    assert run.clock.now == now


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 knows no PYTHONSAFEPATH")
def test_what_lies_in_the_folder_of_an_experiment_is_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit('not the one')")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "psm_stream.adaptation.testing", "--out", str(tmp_path / "out")]
    with running(tmp_path, command=command) as run:
        assert isinstance(run.end(), Done)
