"""psm-adapt worker in a process of its own: its lines, its ends, its exit codes; a real adaptation from end to end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from psm_adapt.adaptation.limits import MEMORY_MB
from psm_adapt.cli.worker import REPEAT_S, STALL_S, Voice
from psm_stream.adaptation.events import Failed, Progress, read_event
from psm_stream.testing import ManualClock

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
GIVEN = ("--snapshot", "s.npz", "--base", "general", "--config", "auto", "--out", "out")
PROGRESS = {
    **{"event": "progress", "phase": "training", "epoch": 1, "epochs": 2, "step": 3, "steps": 6},
    **{"loss": 0.5, "seconds": 2.0, "left_s": 4.0},
}


def command_of(work: str, *arguments: str) -> list[str]:
    """Return the worker's command with another `work.run`, whose body is given. No torch is imported for it."""
    script = (
        "import sys, types, time, os, signal, threading\n"
        "from dataclasses import dataclass, make_dataclass\n"
        "names = 'snapshot base config out seed person device budget_s overrides'.split()\n"
        "def run(job, tell):\n"
        + "".join(f"    {line}\n" for line in work.splitlines())
        + "work = types.ModuleType('psm_adapt.adaptation.work')\n"
        "work.run, work.WorkJob = run, make_dataclass('WorkJob', names)\n"
        "recipes = types.ModuleType('psm_adapt.adaptation.recipes')\n"
        "recipes.dotted_keys = lambda: ['approach', 'run.epochs', 'optimiser.lr']\n"
        "import psm_adapt.adaptation as package\n"
        "package.recipes, package.work = recipes, work\n"
        "sys.modules |= {module.__name__: module for module in (work, recipes)}\n"
        "from psm_adapt.cli.entry import main\n"
        "main()\n"
    )
    return [sys.executable, "-c", script, "worker", *arguments]


def run_worker(work: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = command_of(work, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, stdin=subprocess.DEVNULL)


def events_of(ran: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Every line is JSON; progress that a busy machine caused is left out."""
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    return [event for event in events if event["event"] != "progress"]


@contextmanager
def started(work: str) -> Iterator[subprocess.Popen[str]]:
    """Run a worker whose work prints `here` on stderr; it is there when this begins."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command_of(work, *GIVEN), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("here" in line for line in process.stderr)
            yield process
        finally:
            process.kill()


def test_the_work_gets_what_was_given_and_its_events_are_said() -> None:
    work = "tell({'event': 'done', **{**vars(job), 'snapshot': str(job.snapshot), 'out': str(job.out)}})"
    more = ("--seed", "7", "--person", "ann", "--device", "cpu", "--budget", "90", "--run.epochs", "3")
    ran = run_worker(work, *GIVEN, *more, "--approach", "psm_ctl")
    assert ran.returncode == 0
    assert events_of(ran) == [
        {
            **{"event": "done", "snapshot": "s.npz", "base": "general", "config": "auto", "out": "out", "seed": 7},
            **{"person": "ann", "device": "cpu", "budget_s": 90.0},
            "overrides": {"approach": "psm_ctl", "run.epochs": "3"},
        }
    ]
    plain = run_worker(work, *GIVEN)
    assert events_of(plain)[0] | {"seed": 0, "person": None, "device": "auto", "budget_s": None} == events_of(plain)[0]
    assert events_of(plain)[0]["overrides"] == {}


def test_what_others_print_goes_to_stderr() -> None:
    work = "print('a library'); os.system('echo a child'); os.write(1, b'from C\\n'); tell({'event': 'rejected'})"
    ran = run_worker(work, *GIVEN)
    assert (ran.returncode, events_of(ran)) == (0, [{"event": "rejected"}])
    assert all(text in ran.stderr for text in ("a library", "a child", "from C"))


@pytest.mark.parametrize(
    ("work", "reason", "code"),
    [
        ("from psm_stream.errors import TrainingError; raise TrainingError('not finite')", "not finite", 1),
        ("from psm_stream.errors import ConfigError; raise ConfigError('no such recipe')", "no such recipe", 2),
        (
            "raise ZeroDivisionError('a defect\\nin two lines')",
            "unexpected ZeroDivisionError: a defect in two lines",
            1,
        ),
        ("raise MemoryError", f"out of memory: training needs more than the {MEMORY_MB} MB", 1),
        (
            "raise RuntimeError('CUDA out of memory. Tried')",
            f"out of memory: training needs more than the {MEMORY_MB}",
            1,
        ),
        ("import nowhere_to_be_found", "unexpected ModuleNotFoundError: No module named 'nowhere_to_be_found'", 1),
    ],
)
def test_an_error_is_one_event_and_one_line(work: str, reason: str, code: int) -> None:
    ran = run_worker(work, *GIVEN)
    assert ran.returncode == code
    (event,) = events_of(ran)
    assert event["event"] == "failed"
    assert event["reason"].startswith(reason)
    assert ran.stderr.splitlines()[-1] == f"error: {event['reason']}"
    assert ("Traceback" in ran.stderr) == event["reason"].startswith("unexpected")


def test_after_its_result_nothing_more_is_said() -> None:
    ran = run_worker("tell({'event': 'rejected'}); tell({'event': 'done'}); raise ValueError('too late')", *GIVEN)
    assert (ran.returncode, events_of(ran)) == (1, [{"event": "rejected"}])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone limits memory")
def test_more_memory_than_it_may_take() -> None:
    ran = run_worker("kept = bytearray(900 * 2**20)", *GIVEN, "--memory-mb", "800")
    (event,) = events_of(ran)
    assert ran.returncode == 1
    assert event["reason"].startswith("out of memory: training needs more than the 800 MB that it may take")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "the following arguments are required: --snapshot, --base, --config, --out"),
        ((*GIVEN, "--sede", "3"), "unknown option '--sede'; did you mean --seed?"),
        ((*GIVEN, "--run.epoch", "3"), "unknown option '--run.epoch'; did you mean --run.epochs?"),
        ((*GIVEN, "--seed", "-3"), "--seed -3: expected a whole number from 0"),
        ((*GIVEN, "--memory-mb", "0"), "--memory-mb 0: expected a whole number from 1"),
        ((*GIVEN, "--device", "tpu"), "argument --device: invalid choice: 'tpu'"),
    ],
    ids=lambda value: " ".join(value)[-20:] if isinstance(value, tuple) else "",
)
def test_wrong_arguments(arguments: tuple[str, ...], says: str) -> None:
    ran = run_worker("tell({'event': 'done'})", *arguments)
    (event,) = events_of(ran)
    assert ran.returncode == 2
    assert event["event"] == "failed"
    assert event["reason"].startswith(says)
    assert ran.stderr.splitlines()[-1].startswith(f"error: {says}")


def test_without_torch_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['torch'] = None; from psm_adapt.cli.entry import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", script, "worker", *GIVEN], capture_output=True, text=True, timeout=170, check=False
    )
    (event,) = events_of(ran)
    assert ran.returncode == 1
    assert event["reason"] == "psm-adapt worker needs torch; install it with: pip install 'psm-stream[adapt]'"


def test_help_is_for_people() -> None:
    ran = run_worker("pass", "--help")
    assert ran.returncode == 0
    for option in ("--snapshot", "--base", "--config", "--out", "--budget", "--memory-mb", "rejected"):
        assert option in ran.stdout


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_without_a_word(number: int) -> None:
    with started("print('here', flush=True); time.sleep(600)") as process:
        process.send_signal(number)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stdout is not None
        assert "Traceback" not in process.stderr.read()
        assert all(json.loads(line)["event"] == "progress" for line in process.stdout)


@POSIX
def test_it_leaves_with_who_started_it() -> None:
    with started("print('here', flush=True); time.sleep(600)") as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 130


def test_progress_is_said_again_while_a_step_takes_long() -> None:
    clock, (reader, writer) = ManualClock(), os.pipe()
    with os.fdopen(reader, "rb") as lines:
        voice = Voice(writer, clock)
        voice(PROGRESS)
        clock.now += REPEAT_S / 2
        voice.repeat()
        clock.now += REPEAT_S
        voice.repeat()
        clock.now += 10
        voice.repeat()
        clock.now += STALL_S
        voice.repeat()  # it hangs, it seems
        voice(PROGRESS | {"step": 4})
        clock.now += REPEAT_S
        voice.repeat()
        voice({"event": "failed", "reason": "end"})
        clock.now += REPEAT_S
        voice.repeat()
        voice(PROGRESS)
        os.close(writer)
        events = [read_event(line) for line in lines]
    *told, last = events
    assert last == Failed("end")
    assert [(at.step, at.seconds, at.left_s) for at in told if isinstance(at, Progress)] == [
        (3, 2.0, 4.0),
        (3, 3.5, 2.5),
        (3, 13.5, 0.0),
        (4, 2.0, 4.0),
        (4, 3.0, 3.0),
    ]


def test_before_the_work_has_said_anything_it_reads() -> None:
    clock, (reader, writer) = ManualClock(), os.pipe()
    voice = Voice(writer, clock)
    clock.now += 2.0
    voice.repeat()
    os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        assert [read_event(line) for line in lines] == [Progress("reading", 0, 0, 0, 0, None, 2.0, None)]
