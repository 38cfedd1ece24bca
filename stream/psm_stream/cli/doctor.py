"""psm-doctor: what is installed, and what works here. Exit code 1 when the main job cannot run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from psm_stream import config
from psm_stream.cli.common import Parser, put, run
from psm_stream.doctor import Finding, Verdict, examine
from psm_stream.models import FACE_LANDMARKER, fetch

_STYLE = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.BAD: "bold red"}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    return run(_doctor, argv)


def _doctor(argv: Sequence[str]) -> int:
    parser = Parser("psm-doctor", "Say what is installed and what works here; exit 1 when the main job cannot run.")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--control-port", metavar="N", help="look at this port and the three after it")
    parser.add_argument("--fetch-models", action="store_true", help="download the optional Face Landmarker model")
    parser.add_argument("--url", help="fetch the model from here instead; its digest is checked all the same")
    arguments = parser.parse(argv)
    if arguments.fetch_models:
        return _fetch(arguments.url)
    overrides = {} if arguments.control_port is None else {"wire.control_port": arguments.control_port}
    findings = _report(config.load(None, overrides), arguments.json)
    return 1 if any(finding.verdict is Verdict.BAD for finding in findings) else 0


def _report(settings: config.Settings, as_json: bool) -> list[Finding]:
    if as_json:
        findings = list(examine(settings.wire))
        put(json.dumps([{**asdict(finding), "verdict": finding.verdict.value} for finding in findings], indent=2))
        return findings
    console = Console(highlight=False, soft_wrap=True)
    findings = []
    for finding in examine(settings.wire):
        findings.append(finding)
        mark = Text(f"{finding.verdict.value:>4}  ", style=_STYLE[finding.verdict])
        with console.capture() as line:  # printed by `put`: Rich ends the process when the reader has left
            console.print(mark, Text(f"{finding.subject}: ", style="bold"), Text(finding.text), sep="", end="\n")
        put(line.get(), end="")
    return findings


def _fetch(url: str | None) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(FACE_LANDMARKER.name, total=FACE_LANDMARKER.size_bytes)
        path = fetch(FACE_LANDMARKER, lambda count: progress.advance(task, count), url)
        progress.update(task, completed=FACE_LANDMARKER.size_bytes)
    put(f"{path}: use it with psm-stream --aligner.model {path}")
    return 0
