"""How an export goes, on stderr: what is being done, and how long the rest may take."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from psm_stream.cli.common import put


class Show:
    """A bar with an estimate on a terminal, elsewhere a line for each part. Use in a `with` block."""

    def __init__(self, is_quiet: bool) -> None:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._is_quiet = is_quiet
        self._has_bar = console.is_terminal and not is_quiet
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._has_bar)
        self._task = self._bar.add_task("", total=None)
        self._part = ""

    def __enter__(self) -> Show:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, done: int, of: int, what: str) -> None:
        """Move the bar; a new part of the work is named."""
        if what != self._part:
            self._part = what
            if self._has_bar:
                self._bar.reset(self._task, total=of, description=what)
            elif not self._is_quiet:
                put(what, sys.stderr)
        self._bar.update(self._task, total=of, completed=done)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._has_bar:
            self._bar.console.print(text, markup=False)
        elif not self._is_quiet:
            put(text, sys.stderr)
