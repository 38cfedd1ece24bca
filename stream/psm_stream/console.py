"""What a person sees in the terminal: one calm status, and a line for whatever happens. All of it on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console as RichConsole
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from psm_stream.values import Notice

QUIET_SUBJECTS = frozenset({"ready", "face.found", "face.lost"})
"""Told on the wire; in the terminal the introduction and the status show them."""


class Console:
    """Status and lines. quiet: errors only, which the command line prints. Used by the main thread."""

    def __init__(self, quiet: bool) -> None:
        self._rich = RichConsole(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._status: RichLive | None = None

    def __enter__(self) -> Console:
        if self._rich.is_terminal and not self._rich.quiet:
            self._status = RichLive(console=self._rich, auto_refresh=False, transient=True)
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def say(self, text: str, style: str = "") -> None:
        """Print a line above the status."""
        self._rich.print(Text(text, style=style))

    def tell(self, notice: Notice) -> None:
        """Print a notice, unless the status shows it anyway."""
        if notice.subject in QUIET_SUBJECTS:
            return
        facts = ", ".join(f"{key} {_short(value)}" for key, value in notice.fields.items())
        bad = notice.subject.endswith((".lost", ".rejected")) or "error" in notice.fields
        self.say(f"{notice.subject}: {facts}" if facts else notice.subject, "yellow" if bad else "")

    def show(self, stats: Mapping[str, Any]) -> None:
        """Refresh the status."""
        if self._status is not None:
            self._status.update(_status_table(stats), refresh=True)


def _status_table(stats: Mapping[str, Any]) -> Table:
    frames, latency, recent = stats["frames"], stats["latency_ms"], stats["recent"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column()
    dropped = ", ".join(f"{count} {cause}" for cause, count in frames["dropped"].items()) or "none"
    seen = frames["processed"] - frames["no_face"]
    trained = "" if stats["trained"] else "  [yellow]untrained[/yellow]"
    table.add_row("source", f"{stats['source']}  {recent['fps']:.1f} fps")
    table.add_row("frames", f"{frames['captured']} captured, {frames['processed']} processed, dropped: {dropped}")
    table.add_row("face", f"in {seen} frames, not in {frames['no_face']}; {stats['recent_faces']} recent faces kept")
    table.add_row("capture to publish", f"p50 {recent['p50']:.1f}  p95 {recent['p95']:.1f}  max {recent['max']:.1f} ms")
    stages = "  ".join(f"{stage} {latency[stage]['p50']:.1f}" for stage in ("align", "encode", "publish"))
    table.add_row("stages, p50 ms", stages)
    table.add_row("encoder", f"{stats['model_ids'][-1]} on {stats['providers'][0]}{trained}")
    table.add_row("recording", str(stats["recording"] or "off"))
    table.add_row("memory", f"{stats['rss_mb']:.0f} MB")
    return table


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
