"""psm-adapt crops: align videos, images or sessions into a crop store."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from psm_adapt.cli.evaluate_progress import counted
from psm_adapt.data.gather import Outcome
from psm_adapt.data.ingest import Ingested, IngestOptions, ingest
from psm_adapt.data.layouts import LAYOUTS, RecordingSource, sources_in
from psm_stream.cli.common import Parser, nearest, put
from psm_stream.errors import ConfigError
from psm_stream.models import FACE_LANDMARKER

_EPILOG = """\
Layouts: folder (one sub-folder or video per person), disfa, voxceleb, session (recorded by psm-stream).
A run that was cut off goes on where it was when the same command is given again. A store that is there is added to.
Exit codes: 0 done; 1 a recording could not be read, or nothing came of it; 2 wrong arguments; 130 interrupted."""


def job(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code."""
    given = _parser().parse(arguments)
    options = _options(given)
    if given.layout not in LAYOUTS:
        raise ConfigError(f"--layout {given.layout!r}{nearest(given.layout, list(LAYOUTS))}")
    sources = sources_in([Path(place) for place in given.inputs], given.layout, given.person)
    try:
        with _Show(given.quiet, given.debug) as show:
            done = ingest(sources, Path(given.out), options, show)
    except KeyboardInterrupt:
        put("stopped; the same command goes on where this one was", sys.stderr)
        raise
    put(_summary(done))
    return 0 if all(outcome.was_read for _, outcome in done.outcomes) else 1


def _parser() -> Parser:
    parser = Parser("psm-adapt crops", "Align videos, images or sessions into a crop store.", epilog=_EPILOG)
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="folder of videos or images, or a video")
    parser.add_argument("--out", metavar="STORE", required=True, help="folder of the store; what it holds is kept")
    parser.add_argument("--layout", default="folder", help=f"{', '.join(LAYOUTS)}; default: folder")
    parser.add_argument("--person", metavar="NAME", help="whom all inputs show; default: as the layout says")
    parser.add_argument("--workers", metavar="N", help="processes; default: one for each core, at most 8")
    parser.add_argument(
        "--landmarker",
        metavar="PATH",
        nargs="?",
        const=str(FACE_LANDMARKER.path()),
        help="blendshapes, too, by the Face Landmarker (four times the time); default: what psm-doctor fetched",
    )
    parser.add_argument("--frames", metavar="N", help="look at so many frames of each recording at most")
    parser.add_argument("--every", metavar="N", default="1", help="look at every N-th frame only")
    parser.add_argument("--as-is", action="store_true", help="images are face crops already: take them as they are")
    parser.add_argument("--quiet", action="store_true", help="print the summary and what went wrong only")
    return parser


def _options(given: Namespace) -> IngestOptions:
    return IngestOptions(
        every=_number("--every", given.every) or 1,
        frames=_number("--frames", given.frames),
        landmarker=None if given.landmarker is None else Path(given.landmarker),
        is_as_is=given.as_is,
        workers=_number("--workers", given.workers),
    )


def _number(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(f"{option} {text!r}: expected a whole number from 1")
    return int(text)


class _Show:
    """Shows on stderr how it goes: a bar on a terminal, elsewhere a line for each recording."""

    def __init__(self, is_quiet: bool, has_details: bool) -> None:
        self._is_quiet = is_quiet
        self._has_details = has_details
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._has_bar = console.is_terminal and not is_quiet
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._has_bar)
        self._task = self._bar.add_task("finding faces", total=None)
        self._looked_at: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        self._recordings = 0

    def __enter__(self) -> _Show:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, sources: Sequence[RecordingSource], kept: int) -> None:
        """Say what there is to do."""
        self._recordings = len(sources)
        people = len({source.person for source in sources})
        there = f"; {kept} more are there already" if kept else ""
        self._say(f"looking at {counted(len(sources), 'recording')} of {counted(people, 'person', 'people')}{there}")

    def progress(self, source: RecordingSource, looked_at: int, expected: int | None) -> None:
        """Move the bar. How long unknown recordings are is guessed from the known ones."""
        self._looked_at[source.name] = looked_at
        if expected is not None:
            self._expected[source.name] = expected
        self._move()

    def finish(self, source: RecordingSource, outcome: Outcome) -> None:
        """Tell what became of a recording."""
        self._looked_at[source.name] = self._expected[source.name] = outcome.looked_at
        self._move()
        if outcome.trouble:
            details = f"\n{outcome.details}" if outcome.details and self._has_details else ""
            self._print(f"{source.name}: {outcome.trouble}{details}")
        elif not self._has_bar:
            missed = outcome.looked_at - outcome.count
            self._say(f"{source.name}: {outcome.count} crops" + (f", no face in {missed} frames" if missed else ""))

    def write(self) -> None:
        """Say that the store is now written."""
        self._say("putting the store together")

    def _move(self) -> None:
        known = sum(self._expected.values())
        unknown = self._recordings - len(self._expected)
        total = known + unknown * known / len(self._expected) if self._expected else None
        self._bar.update(self._task, completed=sum(self._looked_at.values()), total=total)

    def _say(self, text: str) -> None:
        if not self._is_quiet:
            self._print(text)

    def _print(self, text: str) -> None:
        if self._has_bar:
            self._bar.console.print(text, markup=False)
        else:
            put(text, sys.stderr)


def _summary(done: Ingested) -> str:
    store = done.store
    missed = sum(recording.looked_at - recording.count for recording in store.recordings)
    size = sum(path.stat().st_size for path in store.folder.glob("*.npy")) / 1e6
    return (
        f"{store.folder}: {counted(len(store.people), 'person', 'people')}, "
        f"{counted(len(store.recordings), 'recording')}, {counted(len(store), 'crop')}, "
        f"no face in {counted(missed, 'frame')}, {size:.0f} MB, {done.seconds:.0f} s"
    )
