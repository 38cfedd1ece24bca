"""A psm-stream process under test: started, found by what it says, stopped, judged."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a process ended. errors: its `error:` lines."""

    code: int
    stderr: str
    summary: dict[str, Any]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("error:")]


class Running:
    """One psm-stream process on free ports, with a summary file in `folder`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._summary = folder / "summary.json"
        self._log = folder / "stderr.txt"
        command = [installed("psm-stream"), "--summary", str(self._summary), *options]
        if "--control-port" not in options:
            command += ["--control-port", "auto"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=subprocess.PIPE)

    def address(self) -> str:
        """Wait until it is ready; return its control address."""
        found = self.said(r"control on port (\d+)")
        return f"tcp://127.0.0.1:{found.group(1)}"

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until it has said something."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = re.search(pattern, self._log.read_text(errors="replace"))
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"it never said {pattern!r}, but: {self._log.read_text(errors='replace')}")

    def end(self, signal_number: signal.Signals | None = None) -> Outcome:
        """Wait for its end, after a signal if one is given."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        try:
            self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        summary = json.loads(self._summary.read_text()) if self._summary.exists() else {}
        return Outcome(self.process.returncode, self._log.read_text(errors="replace"), summary)


def installed(command: str) -> str:
    """The command as pip installed it beside this Python."""
    found = shutil.which(command, path=str(Path(sys.executable).parent))
    assert found is not None, f"{command} is not installed; pip install -e ."
    return found


def run(folder: Path, *options: str) -> Outcome:
    """Run psm-stream to its end."""
    return Running(folder, *options).end()


def balanced(summary: dict[str, Any]) -> bool:
    """Tell whether every captured frame is accounted for."""
    frames = summary["frames"]
    return bool(frames["captured"] == frames["processed"] + sum(frames["dropped"].values()))


def tool(module: str, *options: str | Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run another command line of the package to its end."""
    command = [installed(f"psm-{module}"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
