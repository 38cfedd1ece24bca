"""What the benchmarks share: facts about the machine, psm-stream as a real process, and one form of report.

A report is one JSON object on stdout: what was measured, on which machine, with which settings, and the figures, with
the goal next to each figure that has one. Progress goes to stderr. Nothing here asserts a time: a figure that misses
its goal is printed like any other.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil

PATIENCE_S = 60.0
"""A process that says nothing for so long has failed."""
PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "psm-stream",
    "mediapipe",
    "onnxruntime-gpu",
    "onnxruntime",
    "numpy",
    "opencv-contrib-python",
    "av",
    "pyzmq",
)


def report(title: str, settings: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    """Print the report."""
    about = {"benchmark": title, "machine": machine(), "versions": versions(), "settings": settings}
    print(json.dumps({**about, "figures": figures}, indent=2, default=str))


def say(text: str) -> None:
    """Tell the progress."""
    print(text, file=sys.stderr, flush=True)


def at_most(goal: float, value: float | None, digits: int = 3) -> dict[str, Any]:
    """A figure with its goal; lower is better. value None or NaN: could not be measured."""
    return _judged(value, digits, f"at most {goal:g}", lambda number: number <= goal)


def at_least(goal: float, value: float | None, digits: int = 3) -> dict[str, Any]:
    """A figure with its goal; higher is better."""
    return _judged(value, digits, f"at least {goal:g}", lambda number: number >= goal)


def percentiles(values: Sequence[float], digits: int = 2) -> dict[str, float | None]:
    """Median, p95, p99 and largest of some values, and how many there are."""
    if not len(values):
        return {"p50": None, "p95": None, "p99": None, "max": None, "n": 0}
    p50, p95, p99 = (round(float(np.percentile(values, q)), digits) for q in (50, 95, 99))
    return {"p50": p50, "p95": p95, "p99": p99, "max": round(float(max(values)), digits), "n": len(values)}


def machine() -> dict[str, Any]:
    """CPU, cores, memory, system, Python, and how busy the machine is with other things."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average_1_min": round(psutil.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that matter, as far as they are installed."""
    installed = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


def shared_file(name: str) -> Path | None:
    """A file of the shared face data (`PSM_DATA`, or ../shared/data), or None where there is none."""
    path = Path(os.environ.get("PSM_DATA", PROJECT.parent / "shared" / "data")) / name
    return path if path.exists() else None


def free_port(count: int = 1) -> int:
    """Find the first of `count` neighbouring TCP ports that are free just now."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                for other in range(port + 1, port + count):
                    socket.create_server(("127.0.0.1", other)).close()
            except OSError:
                continue
            return port


def installed(command: str) -> str:
    """The command as pip installed it beside this Python."""
    found = shutil.which(command, path=str(Path(sys.executable).parent))
    if found is None:
        raise SystemExit(f"{command} is not installed beside {sys.executable}; pip install -e . first")
    return found


class Stream:
    """One psm-stream process. Leave the `with` block and it is gone.

    t_start: when it was started, s monotonic. Ports are free ones unless the options name them. program: what to run
    instead of the installed psm-stream.
    """

    def __init__(self, *options: str, program: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="psm-benchmark-")
        self._summary, self._log = Path(self._folder.name, "summary.json"), Path(self._folder.name, "stderr.txt")
        program = program or [installed("psm-stream")]
        command = [*program, "--summary", str(self._summary), *options]
        if "--control-port" not in options:
            command += ["--control-port", "auto"]
        if "--adapt" not in command:  # a training beside it would be measured, too
            command += ["--adapt", "off"]
        self.t_start = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._folder.cleanup()

    def address(self) -> str:
        """Wait until it is ready; return its control address."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"control on port (\d+)", self.said())
            if found:
                return f"tcp://127.0.0.1:{found.group(1)}"
            time.sleep(0.02)
        raise SystemExit(f"psm-stream did not get ready: {self.said() or 'it said nothing'}")

    def seconds_so_far(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.t_start

    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text(errors="replace")

    def wait(self, within_s: float) -> dict[str, Any]:
        """Wait for its end; return its summary, {} where it wrote none. Raises TimeoutExpired."""
        self.process.wait(within_s)
        return json.loads(self._summary.read_text()) if self._summary.exists() else {}

    def interrupt(self, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Press Ctrl-C, and wait for its end as `wait` does."""
        self.process.send_signal(signal.SIGINT)
        return self.wait(within_s)


def _judged(value: float | None, digits: int, words: str, meets: Callable[[float], bool]) -> dict[str, Any]:
    if value is None or not np.isfinite(value):
        return {"value": None, "goal": words, "met": None}
    return {"value": round(float(value), digits), "goal": words, "met": bool(meets(value))}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
