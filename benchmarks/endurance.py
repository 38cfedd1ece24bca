"""Whether memory and latency stay flat: psm-stream live for half an hour, minute by minute.

    python benchmarks/endurance.py [--minutes 30] [--source demo] [--record] [--partial FILE]

A subscriber in this process takes the age of every embedding (`t_receive - t_capture`), and the resident memory of the
psm-stream process is read every second. The first minute is left out of the account: rings and buffers fill up.
`growth` compares the medians of the first and the last third of the remaining minutes, the slope is a straight line
through all of them. After every minute the report so far is written to the partial file; Ctrl-C ends early and prints
it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import Stream, at_most, percentiles, report, say

from psm_stream.client import Subscriber

FLAT_MEMORY, FLAT_LATENCY = 0.02, 0.10
"""Growth that still counts as flat, as a share."""
MB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description="memory and latency over time; prints JSON")
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--minute", type=float, default=60.0, help="seconds of a minute, for a short trial")
    parser.add_argument("--source", default="demo")
    parser.add_argument("--record", action="store_true", help="record meanwhile, into a temporary folder")
    parser.add_argument("--partial", type=Path, default=Path(tempfile.gettempdir(), "psm-endurance.json"))
    options = parser.parse_args()
    minutes: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root:
        record = ("--record", root) if options.record else ()
        with Stream("--source", options.source, "--pace", "live", *record) as stream:
            try:
                watch(stream, options, minutes)
            except KeyboardInterrupt:
                say("ended early")
            summary = stream.interrupt()
    report("endurance", vars(options), figures(minutes) | {"frames": summary["frames"]})


def watch(stream: Stream, options: argparse.Namespace, minutes: list[dict[str, Any]]) -> None:
    """Fill `minutes`."""
    process = psutil.Process(stream.process.pid)
    with Subscriber(stream.address(), ["embedding."]) as subscriber:
        for number in range(1, options.minutes + 1):
            minutes.append({"minute": number, **one_minute(subscriber, process, options.minute)})
            say(str(minutes[-1]))
            options.partial.write_text(json.dumps(figures(minutes), indent=2))


def one_minute(subscriber: Subscriber, process: psutil.Process, seconds: float) -> dict[str, Any]:
    """Ages of embeddings and memory."""
    ages, sizes = [], []
    end = time.monotonic() + seconds
    next_look = 0.0
    lost_before = subscriber.lost
    while (now := time.monotonic()) < end:
        if now >= next_look:
            sizes.append(process.memory_info().rss / MB)
            next_look = now + 1.0
        message = subscriber.receive(min(1.0, end - now))
        if message is not None:
            ages.append(1e3 * (message.t_receive - message.header["t_capture"]))
    return {
        "rss_mb": round(float(np.median(sizes)), 1),
        "threads": process.num_threads(),
        "open_files": process.num_fds() if hasattr(process, "num_fds") else None,
        "latency_ms": percentiles(ages),
        "lost": subscriber.lost - lost_before,
    }


def figures(minutes: list[dict[str, Any]]) -> dict[str, Any]:
    """Growth and slopes so far, and every minute."""
    rss = [minute["rss_mb"] for minute in minutes[1:]]
    p50 = [minute["latency_ms"]["p50"] for minute in minutes[1:] if minute["latency_ms"]["n"]]
    p95 = [minute["latency_ms"]["p95"] for minute in minutes[1:] if minute["latency_ms"]["n"]]
    return {
        "rss_growth": at_most(FLAT_MEMORY, growth(rss), 4),
        "rss_slope_mb_per_hour": slope_per_hour(rss),
        "latency_p50_growth": at_most(FLAT_LATENCY, growth(p50), 4),
        "latency_p50_slope_ms_per_hour": slope_per_hour(p50),
        "latency_p95_growth": at_most(FLAT_LATENCY, growth(p95), 4),
        "latency_p95_slope_ms_per_hour": slope_per_hour(p95),
        "lost": at_most(0, sum(minute["lost"] for minute in minutes)),
        "minutes": minutes,
    }


def growth(values: list[float]) -> float | None:
    """Median of the last third over that of the first third, less 1."""
    third = len(values) // 3
    return float(np.median(values[-third:]) / np.median(values[:third]) - 1) if third else None


def slope_per_hour(values: list[float]) -> float | None:
    """Of a straight line through one value a minute."""
    return round(60 * float(np.polyfit(range(len(values)), values, 1)[0]), 3) if len(values) > 1 else None


if __name__ == "__main__":
    main()
