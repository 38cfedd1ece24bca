"""Latency at 30 fps from the capture of a frame to its embedding in another process.

    python benchmarks/latency.py [--seconds 30] [--rounds 2] [--source all|demo|file]

psm-stream runs at `--pace live`; this process subscribes and takes the time at which it has each embedding
(`time.monotonic`, one clock for all processes of a machine). `latency_ms` is that time minus `t_capture`, without the
first 2 s. `lost` are messages that this subscriber missed. `accounted`: captured = processed + dropped in the summary,
and the index gaps seen here are its drops.

`file` takes turns with a peer on the same video: a short script of MediaPipe, ONNX Runtime and ZeroMQ without
psm-stream (bare.py). It shows what the machine can do just then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import zmq
from bare import STAMP
from common import PATIENCE_S, Stream, at_most, free_port, percentiles, report, say
from videos import FPS, face_video

from psm_stream.client import Subscriber

GOALS_MS = {"p50": 12.0, "p95": 20.0}
WARM_UP_S = 2.0
BARE = Path(__file__).with_name("bare.py")


def main() -> None:
    parser = argparse.ArgumentParser(description="latency to a subscriber process; prints JSON")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--source", choices=["all", "demo", "file"], default="all")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if options.source != "file":
        figures["demo"] = rounds_of("demo", "demo", options)
    if options.source != "demo":
        video = face_video(int(FPS * (options.seconds + 10)))
        figures["file"] = rounds_of("file", str(video), options)
    report("latency", vars(options), figures)


def rounds_of(name: str, source: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure psm-stream, and for a file the peer in turn. Latencies of all rounds are taken together."""
    streams: list[dict[str, Any]] = []
    peers: list[list[float]] = []
    for turn in range(options.rounds):
        streams.append(stream_once(source, options.seconds))
        say(f"{name}, round {turn + 1}: psm-stream {percentiles(streams[-1]['ages_ms'])}")
        if source != "demo":
            peers.append(peer_once(source, options.seconds))
            say(f"{name}, round {turn + 1}: peer       {percentiles(peers[-1])}")
    ages = percentiles([age for run in streams for age in run["ages_ms"]])
    return {
        "source": Path(source).name,
        "latency_ms": {**ages, **{name: at_most(goal, ages[name], 2) for name, goal in GOALS_MS.items()}},
        "p95_ms_of_each_round": [percentiles(run["ages_ms"])["p95"] for run in streams],
        "lost": at_most(0, sum(run["lost"] for run in streams)),
        "accounted": all(run["accounted"] for run in streams),
        "frames": [run["summary"]["frames"] for run in streams],
        "capture_to_publish_ms_in_band": streams[-1]["summary"]["latency_ms"]["capture_to_publish"],
        **({"peer_latency_ms": percentiles([age for ages in peers for age in ages])} if peers else {}),
    }


def stream_once(source: str, seconds: float) -> dict[str, Any]:
    """Subscribe to one run; return ages in ms and the account."""
    ages, indices = [], []
    with (
        Stream("--source", source, "--pace", "live") as stream,
        Subscriber(stream.address(), ["embedding."]) as subscriber,
    ):
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            message = subscriber.receive(began + seconds - now)
            if message is not None:
                indices.append(message.header["frame_index"])
                if now > began + WARM_UP_S:
                    ages.append(1e3 * (message.t_receive - message.header["t_capture"]))
        summary = stream.interrupt()
        lost = subscriber.lost
    frames = summary["frames"]
    gaps = sum(after - before - 1 for before, after in pairwise(indices))
    is_whole = frames["captured"] == frames["processed"] + sum(frames["dropped"].values())
    is_explained = gaps <= frames["no_face"] + lost + sum(frames["dropped"].values())
    return {"ages_ms": ages, "lost": lost, "accounted": is_whole and is_explained, "summary": summary}


def peer_once(video: str, seconds: float) -> list[float]:
    """Subscribe to one run of the bare loop; return ages in ms."""
    port, ages = free_port(), []
    socket: Any = zmq.Context.instance().socket(zmq.SUB)
    socket.subscribe(b"")
    socket.connect(f"tcp://127.0.0.1:{port}")
    command = [sys.executable, str(BARE), video, "--port", str(port), "--seconds", str(seconds)]
    with subprocess.Popen(command) as peer, socket:
        first = 0.0
        while socket.poll(int(1e3 * (0.5 if first else PATIENCE_S))):
            _, t_capture = STAMP.unpack_from(socket.recv())
            now = time.monotonic()
            first = first or now
            if now > first + WARM_UP_S:
                ages.append(1e3 * (now - t_capture))
        peer.terminate()
    return ages


if __name__ == "__main__":
    main()
