"""A worker for tests that needs no torch: it says what a real one says, and misbehaves where it is told to.

Run as a script, `fake_worker(...)` is its command. It takes a real worker's arguments, and

    --at PHASE      where it misbehaves: start, started, reading, training, checking, exporting, or end (after its last
                    event); without it, it works
    --do WHAT       one of MISDEEDS
    --end EVENT     done (default), rejected or failed
    --bundle DIR    the bundle that it is done with, copied to OUT/bundle; a checkpoint/ in it to OUT/checkpoint
    --wait FILE     it says its progress in the training until this file is there

It leaves when its stdin ends.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("reading", "training", "checking", "exporting")


def fake_worker(*arguments: str) -> list[str]:
    """Return the command of a fake worker."""
    return [sys.executable, "-I", __file__, *arguments]


def main() -> None:
    """Be a worker."""
    given, _ = _parser().parse_known_args()
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    threading.Thread(target=_watch_stdin, daemon=True).start()
    _maybe(given, "start")
    recipe = {"recipe": "fake", "device": "cpu", "frames": 24, "held_out": 6, "epochs": 2, "steps": 6}
    told = {"parent": given.base, "person": given.person, "seed": given.seed, "budget_s": given.budget}
    _say("started", **recipe, **told)
    _maybe(given, "started")
    for number, phase in enumerate(PHASES):
        _tell(phase, number)
        _maybe(given, phase)
        while phase == "training" and given.wait is not None and not given.wait.exists():
            _tell(phase, number)
            time.sleep(0.02)
    _finish(given)
    _maybe(given, "end")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--at", default="")
    parser.add_argument("--do", default="", choices=["", *MISDEEDS])
    parser.add_argument("--end", default="done", choices=["done", "rejected", "failed"])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--wait", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--base", default="general")
    parser.add_argument("--person")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float)
    return parser


def _watch_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(130)


def _maybe(given: argparse.Namespace, place: str) -> None:
    if given.do and given.at == place:
        MISDEEDS[given.do]()


def _say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def _tell(phase: str, number: int) -> None:
    counted = {"epoch": number // 2, "epochs": 2, "step": number, "steps": 6}
    _say("progress", phase=phase, **counted, loss=0.5 if number else None, seconds=0.1 * number, left_s=None)


def _finish(given: argparse.Namespace) -> None:
    if given.end == "failed":
        _say("failed", reason="it was told to fail")
        sys.exit(1)
    is_done = given.end == "done"
    out = given.out or Path.cwd()
    model_id = "0123456789ab"
    if is_done and given.bundle is not None:
        shutil.copytree(given.bundle, out / "bundle")
        model_id = json.loads((out / "bundle" / "manifest.json").read_text("utf-8"))["model_id"]
        if (out / "bundle" / "checkpoint").is_dir():
            (out / "bundle" / "checkpoint").rename(out / "checkpoint")
    about = {
        "schema": 1,
        "accepted": is_done,
        "reason": "better on held-out frames" if is_done else "no better than its parent on held-out frames",
        "model_id": model_id if is_done else None,
        "checkpoint_id": "ba9876543210" if is_done else None,
        "parent": given.base,
        "parent_checkpoint": given.base,
        "person": given.person,
        "seed": given.seed,
        "device": "cpu",
        "recipe": {"approach": "psm"},
        "recipe_name": "fake",
        "frames": 24,
        "held_out": 6,
        "epochs": 2,
        "epochs_done": 2,
        "seconds": 0.4,
        "loss_before": 0.5,
        "loss_after": 0.4 if is_done else 0.6,
        "figures": {"rank": 11.0},
        "snapshot_sha256": "0" * 64,
        "versions": {"psm_stream": "0"},
    }
    if given.out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "adaptation.json").write_text(json.dumps(about), "utf-8")
    places = {"bundle": str(out / "bundle"), "checkpoint": str(out / "checkpoint")} if is_done else {}
    _say(given.end, **about, **places)


def _forever() -> None:
    while True:
        time.sleep(60)


def _garbage() -> None:
    for number in range(1000):
        print(f"loading weights {number}", flush=True)
    _forever()


def _a_little_garbage() -> None:
    print("a library says hello", flush=True)
    print('{"event": "progress", "phase": "dreaming"}', flush=True)
    print('[1, 2]\n"text"\n\n{"event": ["done"]}\n{"no": "event"}\n' + "[" * 100_000, flush=True)
    sys.stdout.buffer.write(b"caf\xe9 \xff\xfe\x00\x1b[31m\n")
    sys.stdout.buffer.flush()


def _half_a_line() -> None:
    print('{"event": "done", "accep', end="", flush=True)
    sys.exit(0)


def _huge_line() -> None:
    print("x" * 5_000_000, flush=True)


def _much_text() -> None:
    while True:
        sys.stdout.write("\n" * 10_000)


def _much_log() -> None:
    while True:
        sys.stderr.write("warning: the same again\n" * 1000)


def _log() -> None:
    for _ in range(20_000):
        sys.stderr.write("warning: as a library warns, and fills a pipe that nobody reads\n")
    sys.stderr.flush()


def _raise() -> None:
    raise ZeroDivisionError("a defect\nin two lines")


def _deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _tell("training", 1)
    _forever()


def _chatter() -> None:
    while True:
        _tell("training", 1)
        time.sleep(0.02)


def _leave_a_child() -> None:
    """Kill itself, and leave a process behind that holds stdout and stderr."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-I", "-c", script], stdout=subprocess.PIPE, stderr=None)
    assert child.stdout is not None
    Path("child.pid").write_text(child.stdout.readline().decode())
    os.kill(os.getpid(), signal.SIGKILL)


def _by(name: str) -> Callable[[], None]:
    def end() -> None:
        os.kill(os.getpid(), getattr(signal, name))
        if name == "SIGSTOP":
            _forever()

    return end


MISDEEDS: dict[str, Callable[[], None]] = {
    "die": _by("SIGKILL"),
    "crash": _by("SIGSEGV"),
    "abort": _by("SIGABRT"),
    "freeze": _by("SIGSTOP"),
    "leave": lambda: sys.exit(0),
    "leave-3": lambda: sys.exit(3),
    "raise": _raise,
    "be-silent": _forever,
    "be-deaf": _deaf,
    "chatter": _chatter,
    "garbage": _garbage,
    "little-garbage": _a_little_garbage,
    "half-line": _half_a_line,
    "huge-line": _huge_line,
    "much-text": _much_text,
    "much-log": _much_log,
    "log": _log,
    "leave-a-child": _leave_a_child,
}
"""What it can be told to do, by name."""


if __name__ == "__main__":
    main()
