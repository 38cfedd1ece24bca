"""What a person sees in the terminal: one calm status, and a line for whatever happens. All of it on stderr.

Written by a thread of its own: a terminal that is paused (Ctrl-S, selected text) or gone must not stop the stream.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console as RichConsole
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from psm_stream.adaptation import words
from psm_stream.clusters import words as cluster_words
from psm_stream.values import Notice

QUIET_SUBJECTS = frozenset({"ready", "face.found", "face.lost", "adapt.progress", "cluster.moved"})
"""Told on the wire; in the terminal the introduction and the status show them."""

WAITING = 64
"""Lines that wait for the terminal; more are left out."""
FAREWELL_S = 0.3
"""How long the end waits for the terminal."""


class Console:
    """Status and lines; nothing here waits for the terminal. quiet: failures only."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._rich = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._status: RichLive | None = None
        self._thread = threading.Thread(target=self._work, name="console", daemon=True)

    def __enter__(self) -> Console:
        if self._rich.is_terminal and not self._quiet:
            self._status = RichLive(console=self._rich, auto_refresh=False, transient=True)
            self._put(self._status.start)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._put(self._status.stop)
        self._put(None)
        self._thread.join(FAREWELL_S)

    def say(self, text: str, style: str = "") -> None:
        """Print lines above the status."""
        if not self._quiet:
            self._put(lambda: self._rich.print(Text(text, style=style)))

    def warn(self, text: str) -> None:
        """Print a line that must be seen."""
        self._put(lambda: self._rich.print(Text(f"warning: {text}", style="yellow")))

    def tell(self, notice: Notice) -> None:
        """Print a notice, unless the status shows it anyway."""
        if notice.subject.startswith("adapt.") or notice.subject == "model.swapped":
            self._tell_adaptation(notice.subject, notice.fields)
        elif notice.subject.startswith("cluster.") and notice.subject not in QUIET_SUBJECTS:
            self.say(cluster_words.news(notice.subject, notice.fields), "cyan")
        elif notice.fields.get("failed"):
            self.warn(f"{notice.subject}: {notice.fields.get('reason', '')}")
        elif notice.subject not in QUIET_SUBJECTS:
            facts = ", ".join(f"{key} {_short(value)}" for key, value in notice.fields.items() if value != "")
            self.say(f"{notice.subject}: {facts}", "yellow" if notice.subject.endswith(".lost") else "")

    def _tell_adaptation(self, subject: str, fields: Mapping[str, Any]) -> None:
        line = words.news(subject, fields)
        if subject == "adapt.failed" and not fields["stopped"]:
            self.warn(line)
        elif line:
            self.say(line, {"adapt.done": "green", "adapt.rejected": "yellow"}.get(subject, ""))

    def show(self, stats: Mapping[str, Any]) -> None:
        """Refresh the status."""
        status = self._status
        if status is not None:
            table = _status_table(stats)
            self._put(lambda: status.update(table, refresh=True))

    def _put(self, job: Callable[[], None] | None) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return  # the terminal does not take it; a person will see the next

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                job()
        except (OSError, ValueError, SystemExit):
            return  # the terminal is gone (rich makes a broken pipe a SystemExit); the stream goes on


def _status_table(stats: Mapping[str, Any]) -> Table:
    frames, latency, recent = stats["frames"], stats["latency_ms"], stats["recent"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column()
    dropped = ", ".join(f"{count} {cause}" for cause, count in frames["dropped"].items()) or "none"
    seen = frames["processed"] - frames["no_face"]
    encoder = Text(f"{stats['model_id']} on {stats['providers'][0]}")
    if not stats["trained"]:
        encoder.append("  untrained", style="yellow")
    stages = "  ".join(f"{stage} {latency[stage]['p50']:.1f}" for stage in ("align", "encode", "publish"))
    rows = {
        "source": f"{stats['source']}  {recent['fps']:.1f} fps",
        "frames": f"{frames['captured']} captured, {frames['processed']} processed, dropped: {dropped}",
        "face": f"in {seen} frames, not in {frames['no_face']}; {stats['recent_faces']} recent faces kept",
        "capture to publish": f"p50 {recent['p50']:.1f}  p95 {recent['p95']:.1f}  max {recent['max']:.1f} ms",
        "stages, p50 ms": stages,
        "encoder": encoder,
        "adaptation": words.standing(
            stats["adapting"], stats["recent_faces"], stats["recent_faces_capacity"], stats["frozen"]
        ),
        "clusters": cluster_words.standing(stats["clusters"]),
        "recording": stats["recording"] or "off",
        "memory": f"{stats['rss_mb']:.0f} MB",
    }
    for name, value in rows.items():
        # as Text: a file called "take[one].mp4" is no markup
        table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return table


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
