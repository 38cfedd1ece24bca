"""Latency at 30 fps while a model of the person is trained beside the stream, and what its swap costs. Prints JSON.

    python benchmarks/adapting_live.py [--source file|demo|VIDEO] [--seconds 20] [--after 15] [--rounds 1]
                                       [--recipe NAME] [--options "--faces.capacity 200"]

psm-stream runs at `--pace live` and records, first with `--adapt off`, then with `--adapt auto`: when its 500 recent
faces are there it trains, and takes the new model. This process subscribes and takes the time at which it has each
embedding; `latency_ms` is that less `t_capture`. The parts of the second run:

    idle      after 2 s of warming up, until the faces are there
    starting  snapshot, and the worker imports what it needs
    training  from `adapt.started` to `adapt.done`: training, checking, exporting (each also on its own)
    opening   until `model.swapped`: the new encoder is opened and warmed beside the loop
    after     the new model runs

`others_busy` is how many cores other programs used meanwhile, which the figures cannot be better than; `missing` counts
frames without an embedding. At the swap: the gap in frames and in ms between the last embedding of the old model and
the first of the new, and messages whose model is not the one that `model.swapped` says for their frame. The recording
is verified afterwards by `psm-replay --verify`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import PATIENCE_S, Stream, at_most, installed, percentiles, report, say, shared_file
from videos import FPS, _made, demo_video, pictures

from psm_stream.client import ClientMessage, Subscriber

WARM_UP_S = 2.0
GOAL_RATIO = 1.5
"""p95 while training, as a multiple of p95 in the idle part."""
GOAL_GAP_MS = 100.0
VIDEO_S = 50
WORST = 8
TRAINING_PATIENCE_S = 900.0
ENDS = ("notify.adapt.done", "notify.adapt.rejected", "notify.adapt.failed")
SHOWN = ("reason", "frames", "epochs", "seconds", "loss_before", "loss_after", "recipe", "device", "model_id")


def main() -> None:
    parser = argparse.ArgumentParser(description="latency while a model is trained; prints JSON")
    parser.add_argument("--source", default="file", help="file (one person, 30 fps; default), demo, or a video")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the run without adaptation (default 20)")
    parser.add_argument("--after", type=float, default=15.0, help="seconds after the swap (default 15)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--options", default="", help="more options for psm-stream, separated by spaces")
    options = parser.parse_args()
    source = ["--source", options.source] if options.source != "file" else ["--source", str(one_person())]
    if options.source != "demo":
        source += ["--source.loop", "true"]
    source += options.options.split()
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as home:
        os.environ["PSM_HOME"] = home  # the models of whoever runs this stay as they are
        rounds = [one_round(source, options) for _ in range(options.rounds)]
    ratios = [each["p95_training_to_idle"]["value"] for each in rounds]
    figures = {
        "p95_training_to_idle_worst": at_most(GOAL_RATIO, max((one for one in ratios if one), default=None)),
        "rounds": rounds,
    }
    report("live while adapting", vars(options), figures)


def one_round(source: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Run without adaptation, then with it."""
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root:
        off = watched([*source, "--adapt", "off"], Path(root) / "off", None, options)
    baseline = off.part(off.began + WARM_UP_S, off.ended)
    say(f"off: {baseline}")
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root:
        adapt = ["--adapt", "auto", "--adaptation.recipe", options.recipe]
        auto = watched([*source, *adapt], Path(root), ENDS, options)
        verified = verify(Path(root))
    parts = {name: auto.part(start, end) for name, start, end in auto.parts()}
    p95 = {name: part["latency_ms"]["p95"] for name, part in {"off": baseline, **parts}.items()}
    found = {
        "p95_training_to_idle": at_most(GOAL_RATIO, ratio(p95.get("training"), p95.get("idle"))),
        "p95_training_to_off": at_most(GOAL_RATIO, ratio(p95.get("training"), p95["off"])),
        "off": baseline,
        **parts,
        "swap": auto.swap(),
        "worst": auto.worst(),
        "adaptation": auto.outcome(),
        "worker": auto.worker,
        "frames": auto.summary["frames"],
        "lost": at_most(0, auto.lost),
        "verify": verified,
    }
    say(json.dumps(found, indent=1, default=str))
    return found


@dataclass
class Sample:
    """Once a second. cores: seconds that all cores worked so far. ours: those of psm-stream, its worker and this."""

    t: float
    cores: float
    ours: float
    rss_mb: float


@dataclass
class Watched:
    """What was received in one run."""

    began: float = 0.0
    ended: float = 0.0
    embeddings: list[ClientMessage] = field(default_factory=list)
    notices: list[ClientMessage] = field(default_factory=list)
    stats: list[ClientMessage] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    worker: dict[str, Any] = field(default_factory=dict)
    lost: int = 0
    summary: dict[str, Any] = field(default_factory=dict)

    def first(self, *topics: str) -> ClientMessage | None:
        """The first notice of one of these topics."""
        return next((notice for notice in self.notices if notice.topic in topics), None)

    def parts(self) -> Iterator[tuple[str, float, float]]:
        """Name, beginning and end of each part that there was."""
        busy = (one.t_receive for one in self.stats if one.value["adapting"]["state"] != "idle")
        started, end, swapped = (
            self.first("notify.adapt.started"),
            self.first(*ENDS),
            self.first("notify.model.swapped"),
        )
        t_started = started.t_receive if started else self.ended
        t_busy = min(next(busy, t_started), t_started)
        t_end = end.t_receive if end else self.ended
        yield "idle", self.began + WARM_UP_S, t_busy
        yield "starting", t_busy, t_started
        yield "training", t_started, t_end
        phases = [(one.header["phase"], one.t_receive) for one in self.notices if one.topic == "notify.adapt.progress"]
        for name in ("training", "checking", "exporting"):
            times = [t for phase, t in phases if phase == name]
            later = [t for phase, t in phases if times and t > times[-1]]
            if times:
                yield f"training: {name}", times[0], min([*later, t_end])
        if swapped:
            yield "opening", t_end, swapped.t_receive
            yield "after", swapped.t_receive, self.ended

    def part(self, start: float, end: float) -> dict[str, Any]:
        """Latency and what else was going on from start to end."""
        inside = [one for one in self.embeddings if start <= one.t_receive < end]
        ages = [1e3 * (one.t_receive - one.header["t_capture"]) for one in inside]
        indices = [one.header["frame_index"] for one in inside]
        samples = [one for one in self.samples if start <= one.t <= end]
        spent = (samples[-1].cores - samples[0].cores, samples[-1].ours - samples[0].ours) if len(samples) > 1 else None
        return {
            "seconds": round(end - start, 2),
            "latency_ms": percentiles(ages),
            "missing": indices[-1] - indices[0] + 1 - len(indices) if indices else None,
            "others_busy": round((spent[0] - spent[1]) / (samples[-1].t - samples[0].t), 2) if spent else None,
            "ours_busy": round(spent[1] / (samples[-1].t - samples[0].t), 2) if spent else None,
            "rss_mb": round(float(np.median([one.rss_mb for one in samples])), 1) if samples else None,
        }

    def worst(self) -> list[dict[str, Any]]:
        """The latest embeddings after warming up, and what was last said before each."""
        late = sorted(
            (one for one in self.embeddings if one.t_receive > self.began + WARM_UP_S),
            key=lambda one: one.header["t_capture"] - one.t_receive,
        )[:WORST]
        found = []
        for one in late:
            said = [notice for notice in self.notices if notice.t_receive <= one.t_receive]
            last = said[-1] if said else None
            what = f"{last.topic} {last.header.get('phase', '')}".strip() if last else ""
            found.append(
                {
                    "latency_ms": round(1e3 * (one.t_receive - one.header["t_capture"]), 1),
                    "captured_at_s": round(one.header["t_capture"] - self.began, 2),
                    "after": f"{one.t_receive - last.t_receive:.2f} s {what}" if last else "",
                }
            )
        return found

    def swap(self) -> dict[str, Any] | None:
        """The gap at the swap, and messages of the wrong model."""
        swapped = self.first("notify.model.swapped")
        if swapped is None:
            return None
        at, old, new = (swapped.header[key] for key in ("frame_index", "old", "new"))
        before = [one for one in self.embeddings if one.header["frame_index"] < at]
        after = [one for one in self.embeddings if one.header["frame_index"] >= at]
        wrong = [one for one in before if (one.header["model_id"], one.header["model_epoch"]) != (old, 0)]
        wrong += [one for one in after if (one.header["model_id"], one.header["model_epoch"]) != (new, 1)]
        last, first = before[-1], after[0]
        end = self.first(*ENDS)
        return {
            "frame_index": at,
            "gap_frames": first.header["frame_index"] - last.header["frame_index"] - 1,
            "gap_ms": at_most(GOAL_GAP_MS, 1e3 * (first.t_receive - last.t_receive), 1),
            "gap_of_captures_ms": round(1e3 * (first.header["t_capture"] - last.header["t_capture"]), 1),
            "usual_gap_ms": percentiles(gaps_ms(before[-300:])),
            "first_latency_ms": round(1e3 * (first.t_receive - first.header["t_capture"]), 2),
            "done_to_swapped_ms": round(1e3 * (swapped.t_receive - end.t_receive), 1) if end else None,
            "of_the_wrong_model": at_most(0, len(wrong)),
        }

    def outcome(self) -> dict[str, Any] | None:
        """What came of the adaptation."""
        end = self.first(*ENDS)
        shown = {key: end.header[key] for key in SHOWN if key in end.header} if end else {}
        return {"event": end.topic, **shown} if end else None


def watched(arguments: list[str], root: Path, ends: tuple[str, ...] | None, options: argparse.Namespace) -> Watched:
    """Run psm-stream until it adapted, or for so many seconds, and receive everything."""
    seen = Watched()
    with (
        Stream(*arguments, "--pace", "live", "--record", str(root)) as stream,
        Subscriber(stream.address(), ["embedding.", "notify.", "stats."]) as subscriber,
    ):
        process = psutil.Process(stream.process.pid)
        first = subscriber.receive(PATIENCE_S)
        if first is None:
            raise SystemExit(f"nothing came: {stream.said()}")
        seen.began = time.monotonic()
        until = seen.began + (options.seconds + WARM_UP_S if ends is None else TRAINING_PATIENCE_S)
        next_look = 0.0
        while (now := time.monotonic()) < until:
            if stream.process.poll() is not None:
                raise SystemExit(f"psm-stream ended: {stream.said()}")
            if now >= next_look:
                seen.samples.append(sampled(process, seen.worker))
                next_look = now + 1.0
            message = subscriber.receive(min(0.2, until - now))
            if message is None:
                continue
            if message.topic.startswith("embedding."):
                seen.embeddings.append(message)
            elif message.topic.startswith("stats."):
                seen.stats.append(message)
            else:
                seen.notices.append(message)
                if message.topic != "notify.adapt.progress":
                    say(f"{now - seen.began:7.1f} s {message.topic}")
                if message.topic == "notify.model.swapped" or message.topic in (ends or ())[1:]:
                    until = min(until, now + options.after)
        seen.ended = time.monotonic()
        seen.lost = subscriber.lost
        seen.summary = stream.interrupt()
    return seen


def sampled(process: psutil.Process, worker: dict[str, Any]) -> Sample:
    """Look at the processors and at our processes. Fills `worker` when there is one."""
    busy = psutil.cpu_times()
    cores = busy.user + busy.system + busy.nice + busy.irq + busy.softirq
    ours = sum(psutil.Process().cpu_times()[:2]) + sum(process.cpu_times()[:2])
    for child in process.children():
        try:
            worker["processor_s"] = sum(child.cpu_times()[:2])
            worker["rss_mb"] = max(worker.get("rss_mb", 0.0), round(child.memory_info().rss / (1 << 20), 1))
            worker["nice"] = child.nice()
            worker["threads"] = max(worker.get("threads", 0), child.num_threads())
            if hasattr(os, "sched_getscheduler"):
                worker["scheduler"] = {0: "other", 3: "batch", 5: "idle"}.get(os.sched_getscheduler(child.pid))
        except (psutil.Error, ProcessLookupError):
            continue
    return Sample(time.monotonic(), cores, ours + worker.get("processor_s", 0.0), process.memory_info().rss / (1 << 20))


def verify(root: Path) -> dict[str, Any]:
    """Verify the one session under a folder."""
    (info,) = root.glob("*/*/info.json")
    kept = sorted(path.name for path in (info.parent / "adaptations").glob("*/*"))
    command = [installed("psm-replay"), str(info.parent), "--verify", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20 * PATIENCE_S, check=False)
    return {"exit": at_most(0, done.returncode), "said": (done.stdout or done.stderr).strip(), "kept": kept}


def ratio(value: float | None, reference: float | None) -> float | None:
    return value / reference if value and reference else None


def gaps_ms(messages: list[ClientMessage]) -> list[float]:
    """Between arrivals."""
    return list(np.diff([1e3 * one.t_receive for one in messages]))


def one_person() -> Path:
    """A video of one person at 30 fps, or of the demo's face where there is no shared one."""
    file = shared_file("grid/grid_s1.mp4")
    if file is None:
        return demo_video(VIDEO_S * FPS)
    return _made(
        f"grid_s1-360x288-{VIDEO_S * FPS}.mp4", chain.from_iterable(map(pictures, cycle([file]))), VIDEO_S * FPS
    )


if __name__ == "__main__":
    main()
