"""psm-export bench BUNDLE: latency and throughput here, next to PyTorch."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psm_export.cli.arguments import DEVICES, add_model_options, chosen, open_given, whole_numbers
from psm_stream.cli.common import Parser, put
from psm_stream.errors import ConfigError

if TYPE_CHECKING:
    from psm_export.bench import Row
    from psm_export.model import Model
    from psm_stream.bundle import EncoderBundle
    from psm_stream.devices import Device

_EPILOG = """\
Rows are bundles by provider (as ONNX Runtime reports it), precision, threads and batch; give several bundles to compare
precisions. `live path` is what psm-stream does with a face. `torch eager` is the same network in PyTorch, float32, on
the CPU: of --against MODEL, else of the bundle's architecture with drawn weights, on which its time does not depend."""


def job(arguments: Sequence[str]) -> int:
    """Time, and print a table or JSON. Returns the exit code. Raises PsmError: a bundle cannot run."""
    options = _parser().parse(arguments)
    device = chosen("--device", options.device, DEVICES)
    batches, threads = whole_numbers("--batches", options.batches), whole_numbers("--threads", options.threads, 64)
    (rounds,) = _one("--rounds", options.rounds)
    from psm_export.bench import Plan, bench
    from psm_export.cli.progress import Show
    from psm_stream.bundle import open_bundle

    bundles = [open_bundle(Path(folder)) for folder in options.bundle]
    devices: tuple[Device, ...] = ("cpu", "cuda", "tensorrt") if device == "auto" else (device,)
    plan = Plan(devices, batches, threads, rounds)
    with Show(options.quiet) as show:
        rows, missing = bench(bundles, _eager(bundles, options), plan, show.tell)
    report = {"machine": _machine(), "rows": [dataclasses.asdict(row) for row in rows], "not_measured": missing}
    if options.json is not None and options.json != "-":
        _write(Path(options.json), report)
    put(json.dumps(report, indent=2) if options.json == "-" else _text(rows, missing))
    return 0


def _parser() -> Parser:
    parser = Parser("psm-export bench", "Time bundles on this machine.", epilog=_EPILOG)
    parser.add_argument("bundle", metavar="BUNDLE", nargs="+", help="bundle folder")
    parser.add_argument("--device", default="auto", help="auto (all that are here), cpu, cuda or tensorrt")
    parser.add_argument("--batches", default="1,8,32", metavar="N,N", help="faces in one call; default: 1,8,32")
    parser.add_argument("--threads", default="1,2", metavar="N,N", help="CPU threads in one call; default: 1,2")
    parser.add_argument("--rounds", default="10", metavar="N", help="turns of each; default: 10")
    parser.add_argument("--against", metavar="MODEL", action="append", help="what PyTorch runs; repeat for an ensemble")
    add_model_options(parser)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - prints them instead of the table")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _one(option: str, text: str) -> tuple[int]:
    numbers = whole_numbers(option, text)
    if len(numbers) != 1:
        raise ConfigError(f"{option} {text!r}: expected one whole number")
    return (numbers[0],)


def _eager(bundles: Sequence[EncoderBundle], options: Namespace) -> Model | None:
    """The model that PyTorch runs beside the first bundle, None where there is none of its kind."""
    if options.against is not None:
        return open_given(options.against, options)
    from psm_export.sources.architectures import ARCHITECTURES
    from psm_export.sources.drawn import drawn

    architecture = bundles[0].manifest.architecture
    return drawn(architecture, 0) if architecture in ARCHITECTURES else None


def _write(path: Path, report: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json {path}: {error.strerror or error}") from None


def _machine() -> dict[str, Any]:
    import onnxruntime

    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def _text(rows: Sequence[Row], missing: Sequence[str]) -> str:
    heads = ("what", "precision", "provider", "threads", "batch", "p50 ms", "p95 ms", "p99 ms", "min ms", "faces/s", "")
    table: list[tuple[str, ...]] = [heads]
    for row in rows:
        times = (f"{value:.2f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms, row.min_ms))
        cells = (row.name, row.precision, row.provider, str(row.threads), str(row.batch), *times)
        table.append((*cells, f"{row.faces_per_s:.0f}", _times_eager(row, rows)))
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([*lines, *(f"not measured: {reason}" for reason in missing)])


def _times_eager(row: Row, rows: Sequence[Row]) -> str:
    from psm_export.bench import EAGER

    same = [one for one in rows if one.name == EAGER and (one.threads, one.batch) == (row.threads, row.batch)]
    return f"{same[0].p50_ms / row.p50_ms:.2f} x eager" if same and row.name != EAGER else ""
