"""psm-adapt worker: one adaptation in a process of its own, for programs. Each line on stdout is a JSON object."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from argparse import SUPPRESS, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from psm_adapt.adaptation import limits
from psm_stream.cli.common import INTERRUPTED, Parser, put
from psm_stream.errors import AdaptationError, ConfigError, PsmError

REPEAT_S = 1.0
"""How long the worker says nothing of its own; then its last progress is said again, so that one comes every 2 s."""
STALL_S = 120.0
"""How long it is said again: whoever listens must be able to tell a long step from one that does not end."""
_EPILOG = """\
Events, one JSON object a line: started, progress, and at the end done, rejected or failed; docs/adaptation.md lists
their fields. Any setting of the recipe can be given by its dotted key, as in --run.epochs 3.
Started by a program with stdin as a pipe, it leaves when the pipe is closed.
Exit codes: 0 done or rejected; 1 failed; 2 wrong arguments; 130 interrupted."""


def job(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code."""
    try:
        given, _ = _parser().parse_known_args(arguments)  # the recipe's keys are not known before torch is imported
        _check(given)
    except ConfigError as error:
        put(json.dumps({"event": "failed", "reason": str(error)}))
        raise
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _leave_at_once())
    limits.follow_parent(_leave_at_once)
    limits.step_back()
    with Voice(_own_stdout(), time.monotonic) as voice:
        try:
            _work(arguments, voice)
        except Exception as error:
            reason = _reason(error, given.memory_mb)
            voice({"event": "failed", "reason": reason})
            if isinstance(error, PsmError):
                raise
            if not limits.is_out_of_memory(error):
                traceback.print_exc()
            raise AdaptationError(reason) from error
    return 0


class Voice:
    """Says events on a stream, one line each, and its last progress again when it has nothing new to say.

    Args:
        stream: File descriptor.
        clock: Monotonic, seconds.
    """

    def __init__(self, stream: int, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._since = clock()
        self._last: dict[str, Any] = {
            **{"event": "progress", "phase": "reading", "epoch": 0, "epochs": 0, "step": 0, "steps": 0},
            **{"loss": None, "seconds": 0.0, "left_s": None},
        }
        self._thread = threading.Thread(target=self._repeat, name="voice", daemon=True)

    def __enter__(self) -> Voice:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Say an event. After one that ends the run, nothing more is said."""
        with self._lock:
            if self._ended.is_set():
                return
            if event["event"] == "progress":
                self._last = dict(event)
            elif event["event"] != "started":
                self._ended.set()
            self._since = self._clock()
            self._write(event)

    def repeat(self) -> None:
        """Say the last progress again, with the seconds that went by since; nothing when nothing was new for long."""
        with self._lock:
            waited = self._clock() - self._since
            if self._ended.is_set() or not REPEAT_S <= waited <= STALL_S:
                return
            left = self._last["left_s"]
            now = {"seconds": round(self._last["seconds"] + waited, 3)}
            self._write({**self._last, **now, "left_s": None if left is None else round(max(left - waited, 0.0), 3)})

    def _write(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._stream, line) :]
        except BrokenPipeError:  # nobody listens any more
            _leave_at_once()

    def _repeat(self) -> None:
        while not self._ended.wait(REPEAT_S):
            with suppress(OSError):  # the disk is full, say; the next event of the work itself fails by it
                self.repeat()


def _work(arguments: Sequence[str], voice: Voice) -> None:
    """Import what learns, and let it. Raises ConfigError: torch is not installed, or an argument is wrong."""
    try:
        from psm_adapt.adaptation import recipes
        from psm_adapt.adaptation.work import WorkJob, run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "psm_adapt":
            raise
        missing = f"psm-adapt worker needs {error.name}; install it with: pip install 'psm-stream[adapt]'"
        raise AdaptationError(missing) from None
    keys = recipes.dotted_keys()
    given = _parser(keys).parse(arguments)
    limits.limit_memory(given.memory_mb, given.device)
    overrides = {key: vars(given)[key] for key in keys if vars(given)[key] is not None}
    work = WorkJob(
        snapshot=given.snapshot,
        base=given.base,
        config=given.config,
        out=given.out,
        seed=given.seed,
        person=given.person,
        device=given.device,
        budget_s=given.budget,
        overrides=overrides,
    )
    run(work, voice)


def _parser(keys: Sequence[str] = ()) -> Parser:
    parser = Parser(
        "psm-adapt worker",
        "Adapt a model to the person in a snapshot, beside a live stream; psm-adapt finetune is for people.",
        usage="psm-adapt worker --snapshot FILE.npz --base general|FOLDER --config auto|NAME|FILE --out DIR [options]",
        epilog=_EPILOG,
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--snapshot", metavar="FILE", type=Path, required=True, help="recent faces, as SNAPSHOT writes")
    parser.add_argument("--base", metavar="FOLDER", required=True, help="general, a checkpoint, or a person's model")
    parser.add_argument("--config", metavar="NAME", required=True, help="recipe: auto, a name, or a YAML file")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="new or empty folder for the result")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="same seed, same weights")
    parser.add_argument("--person", metavar="NAME", help="whose model it is")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--budget", metavar="SECONDS", type=float, help="time for the training; else the recipe's")
    parser.add_argument(
        "--memory-mb", metavar="N", type=int, default=limits.MEMORY_MB, help="may allocate so much (%(default)s)"
    )
    for key in keys:
        parser.add_argument(f"--{key}", dest=key, help=SUPPRESS)
    return parser


def _check(given: Namespace) -> None:
    if given.seed < 0:
        raise ConfigError(f"--seed {given.seed}: expected a whole number from 0")
    if given.memory_mb < 1:
        raise ConfigError(f"--memory-mb {given.memory_mb}: expected a whole number from 1")


def _own_stdout() -> int:
    """Keep stdout for the events: return a descriptor for them, and let whatever else is printed go to stderr."""
    sys.stdout.flush()
    events = os.dup(1)
    os.dup2(2, 1)
    return events


def _reason(error: Exception, memory_mb: int) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if limits.is_out_of_memory(error):
        return f"out of memory: training needs more than the {memory_mb} MB that it may take ({text[:120]})"
    return text if isinstance(error, PsmError) else f"unexpected {type(error).__name__}: {text[:300]}"


def _leave_at_once() -> None:
    os._exit(INTERRUPTED)
