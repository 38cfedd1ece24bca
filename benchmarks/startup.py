"""Time from starting the psm-stream process to its first embedding in another process.

    python benchmarks/startup.py [--runs 5] [--source demo]

`cold` runs come right after the libraries' files were taken out of the page cache (Linux; parts that other processes
use stay), `warm` runs do not. The phases, in seconds from the start of the process: `interpreter` a Python that does
nothing, `imports` one that imports what a run needs, one after the other (psm-stream opens its parts side by side, so
this may be longer than `ready`; both are measured apart), `ready` models warm and sockets open (the
time in `notify.ready`), `captured` the first frame, `published` its embedding, `received` the embedding here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from common import PATIENCE_S, Stream, at_most, free_port, report, say

from psm_stream.client import Subscriber

GOAL_S = 3.0
IMPORTS = "import psm_stream.cli.stream, psm_stream.live, psm_stream.align.facemesh, onnxruntime"
PHASES = ("interpreter", "imports", "ready", "captured", "published", "received")


def main() -> None:
    parser = argparse.ArgumentParser(description="start to first embedding; prints JSON")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--source", default="demo")
    options = parser.parse_args()
    taken: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for run in range(options.runs):
        for kind, runs in taken.items():
            runs.append(start_once(options.source, kind == "cold"))
            say(f"run {run + 1}, {kind}: first embedding after {runs[-1]['received']:.2f} s")
    report("startup", vars(options), {kind: figures(runs) for kind, runs in taken.items()})


def figures(runs: list[dict[str, float]]) -> dict[str, Any]:
    received = [run["received"] for run in runs]
    return {
        "first_embedding_s": {"median": at_most(GOAL_S, median(received)), "worst": at_most(GOAL_S, max(received))},
        "phases_s_median": {phase: round(median(run[phase] for run in runs), 3) for phase in PHASES},
        "first_frame_index": [int(run["frame_index"]) for run in runs],
    }


def start_once(source: str, is_cold: bool) -> dict[str, float]:
    """Start psm-stream; return when each phase ended, s from the start."""
    phases = {"interpreter": alone("pass", is_cold), "imports": alone(IMPORTS, is_cold)}
    if is_cold:
        evict()
    port = free_port(4)
    with (
        Subscriber(topics=["notify.ready", "embedding."], publish_address=str(port + 1)) as subscriber,
        Stream("--source", source, "--control-port", str(port)) as stream,
    ):
        while "received" not in phases:
            message = subscriber.receive(PATIENCE_S)
            if message is None:
                raise SystemExit(f"no embedding came: {stream.said()}")
            header, t0 = message.header, stream.t_start
            if message.topic == "notify.ready":
                phases["ready"] = header["t_publish"] - t0
            else:
                phases["captured"], phases["published"] = header["t_capture"] - t0, header["t_publish"] - t0
                phases["received"] = message.t_receive - t0
                phases["frame_index"] = header["frame_index"]
        stream.interrupt()
    return phases


def alone(program: str, is_cold: bool) -> float:
    """Time a Python process that runs this and ends."""
    if is_cold:
        evict()
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def evict() -> None:
    """Ask the kernel to forget the files of psm-stream's libraries."""
    if not hasattr(os, "posix_fadvise"):
        return
    for name in (
        "mediapipe",
        "onnxruntime-gpu",
        "onnxruntime",
        "opencv-contrib-python",
        "numpy",
        "av",
        "pydantic_core",
    ):
        for path in _files_of(name):
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def _files_of(distribution: str) -> list[Path]:
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    return [path for path in (Path(str(file.locate())) for file in files) if path.is_file()]


if __name__ == "__main__":
    main()
