"""How an evaluation goes, on stderr: a bar on a terminal, elsewhere a line for each part."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from psm_adapt.data.gather import Outcome
from psm_adapt.data.layouts import RecordingSource
from psm_stream.cli.common import put


class Show:
    """Shows an evaluation, as its Watcher. Recordings that were not aligned before are shown by `of_crops`."""

    def __init__(self, is_quiet: bool) -> None:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._is_quiet = is_quiet
        self._has_bar = console.is_terminal and not is_quiet
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._has_bar)
        self._task = self._bar.add_task("reading", total=None)

    def __enter__(self) -> Show:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def of_crops(self) -> ShowCrops:
        """Return the Watcher of a crop store that is made on the way."""
        return ShowCrops(self)

    def begin(self, what: str, total: int | None) -> None:
        """Name the part that begins."""
        if self._has_bar:
            self._bar.reset(self._task, total=total, description=what)
        elif not self._is_quiet:
            put(what, sys.stderr)

    def advance(self, frames: int) -> None:
        """Move the bar."""
        self._bar.advance(self._task, frames)

    def say(self, text: str) -> None:
        """Print a line that stays, also when the rest is quiet."""
        if self._has_bar:
            self._bar.console.print(text, markup=False)
        else:
            put(text, sys.stderr)


class ShowCrops:
    """Shows how a crop store is made."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._looked_at: dict[str, int] = {}

    def begin(self, sources: Sequence[RecordingSource], kept: int) -> None:
        """Say what there is to do."""
        self._show.begin(
            f"finding faces in {counted(len(sources), 'recording')}" + (f", {kept} are there" if kept else ""), None
        )

    def progress(self, source: RecordingSource, looked_at: int, expected: int | None) -> None:  # noqa: ARG002
        """Count frames."""
        self._show.advance(looked_at - self._looked_at.get(source.name, 0))
        self._looked_at[source.name] = looked_at

    def finish(self, source: RecordingSource, outcome: Outcome) -> None:
        """Say what was wrong with a recording."""
        if outcome.trouble:
            self._show.say(f"{source.name}: {outcome.trouble}")

    def write(self) -> None:
        """Say that the store is now written."""
        self._show.begin("putting the store together", None)


def counted(number: int, one: str, many: str = "") -> str:
    """Return "1 person" or "2 people"; without `many`, "2 recordings"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
