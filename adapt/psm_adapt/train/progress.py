"""What a person sees of training: a bar with an estimate in a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from psm_stream.cli.common import put

Clock: TypeAlias = Callable[[], float]

LINE_S = 20.0
"""Without a terminal, a long epoch gives a line so often; short epochs one at most each second."""
RATE_STEPS = 50
"""Steps that the images per second and the estimate are averaged over."""


class Teller:
    """Shows how far training is. quiet: warnings only. clock: seconds, monotonic."""

    def __init__(self, quiet: bool, clock: Clock = time.monotonic) -> None:
        self._quiet = quiet
        self._clock = clock
        self._told_s = -LINE_S
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        if self._console.is_terminal and not quiet:
            self._bar = Progress(
                BarColumn(), TextColumn("{task.description}"), console=self._console, auto_refresh=False, transient=True
            )

    def __enter__(self) -> Teller:
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task("")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        if not self._quiet:
            self._print(line)

    def warn(self, line: str) -> None:
        """Print a line that must be seen."""
        self._print(f"warning: {line}")

    def step(self, status: str, done: float) -> None:
        """Show where a step got. done: share of all steps, 0..1."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=status, completed=100 * done, refresh=True)
        elif self._clock() - self._told_s >= LINE_S:
            self._told_s = self._clock()
            self.say(status)

    def epoch(self, line: str, is_last: bool) -> None:
        """Print an epoch's line; the last epoch's always, others at most one each second."""
        if is_last or self._bar is not None or self._clock() - self._told_s >= 1.0:
            self._told_s = self._clock()
            self.say(line)

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._console.print(line, markup=False)
        else:
            put(line, sys.stderr)


class Pace:
    """Steps per second over the last RATE_STEPS steps."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[float] = deque([clock()], RATE_STEPS + 1)

    def step(self) -> None:
        """Note that a step is done."""
        self._times.append(self._clock())

    @property
    def steps_per_s(self) -> float:
        """0 before the first step."""
        passed = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / passed if passed > 0 else 0.0


def terms_in_words(terms: Mapping[str, float]) -> str:
    """Show losses in few letters, the total first."""
    ordered = sorted(terms, key=lambda name: name != "total")
    return " ".join(f"{name} {terms[name]:.4g}" for name in ordered)


def duration_in_words(seconds: float) -> str:
    """Show a duration: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
