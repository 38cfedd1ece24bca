"""What clusters cost the live path: latency at 30 fps without them, with them, and while they are fitted all the time.

    python benchmarks/clusters_live.py [--seconds 40] [--rounds 2] [--source demo|FILE]

The three take turns: `off` (no clusters), `on` (as shipped) and `busy` (fitted again every 2 s, which nobody needs).
psm-stream runs at `--pace live` in a process of its own; this one subscribes and takes the time at which it has each
embedding (`time.monotonic`, one clock for all processes of a machine), from the first clusters on (`off`: from where
the others had them, about 10 s). `assign_ms` is the stage `cluster` of the summary. `fits` counts clusterings.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from common import Stream, at_most, percentiles, report, say

from psm_stream.client import Subscriber

HOW = {
    "off": ("--clusters.method", "off"),
    "on": (),
    "busy": ("--clusters.every_s", "2", "--clusters.min_new_faces", "1"),
}
FROM_S = 12.0


def main() -> None:
    parser = argparse.ArgumentParser(description="cost of clusters on the live path; prints JSON")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--source", default="demo")
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in HOW}
    for turn in range(options.rounds):
        for name, flags in HOW.items():
            runs[name].append(once(options.source, options.seconds, flags))
            say(f"round {turn + 1}, {name}: {percentiles(runs[name][-1]['ages_ms'])}")
    report("clusters_live", vars(options), {name: figures(of) for name, of in runs.items()})


def once(source: str, seconds: float, flags: tuple[str, ...]) -> dict[str, Any]:
    """Subscribe to one run; return ages in ms, the number of clusterings and the summary."""
    ages: list[float] = []
    fits: list[dict[str, Any]] = []
    with (
        Stream("--source", source, "--pace", "live", "--adapt", "off", *flags) as stream,
        Subscriber(stream.address(), ["embedding.", "notify.cluster."]) as subscriber,
    ):
        began = time.monotonic()
        for message in subscriber:
            now = time.monotonic()
            if message.topic == "notify.cluster.fitted":
                fits.append(message.header)
            elif message.topic.startswith("embedding.") and now - began > FROM_S:
                ages.append((now - message.header["t_capture"]) * 1e3)
            if now - began > seconds:
                break
        summary = stream.interrupt()
    return {"ages_ms": ages, "fits": len(fits), "clusters": [one["clusters"] for one in fits], "summary": summary}


def figures(runs: list[dict[str, Any]]) -> dict[str, Any]:
    ages = percentiles([age for run in runs for age in run["ages_ms"]])
    assigning = [run["summary"]["latency_ms"]["cluster"] for run in runs]
    return {
        "latency_ms": {**ages, "p95": at_most(20.0, ages["p95"], 2)},
        "p95_ms_of_each_round": [percentiles(run["ages_ms"])["p95"] for run in runs],
        "assign_ms": [{**one, "p99": at_most(1.0, one["p99"])} if one["n"] else one for one in assigning],
        "dropped": [run["summary"]["frames"]["dropped"] for run in runs],
        "fits": [run["fits"] for run in runs],
        "clusters": [run["clusters"][-1:] for run in runs],
        "rss_mb": [run["summary"]["rss_mb"] for run in runs],
    }


if __name__ == "__main__":
    main()
