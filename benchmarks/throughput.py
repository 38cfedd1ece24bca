"""How many frames a second psm-stream does at `--pace fast`, next to a bare FaceMesh loop over the same video.

    python benchmarks/throughput.py [--frames 4800] [--rounds 3] [--size all|360x288|640x480]

psm-stream decodes, aligns, encodes and publishes; the loop decodes and runs FaceMesh, and nothing else. They take
turns, so that a busy machine disturbs all alike. `ratio` is the median fps of psm-stream over that of the loop: once
over a loop that decodes (`with_decoding`), once over one whose frames lie in memory (`frames_in_memory`). psm-stream's
fps are counted from ready to the last frame; `fps_with_start` counts from the start of the process to its end.
`cpu_ms_per_frame`, start included, is what another program on the same cores does not change: divided by the number of
cores it is the best that psm-stream could do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from bare import mesh_fps
from common import Stream, at_least, report, say
from videos import demo_video, face_video

GOAL = 0.6
VIDEOS: dict[str, Callable[[int], Path]] = {"360x288": face_video, "640x480": demo_video}


def main() -> None:
    parser = argparse.ArgumentParser(description="throughput against bare FaceMesh; prints JSON")
    parser.add_argument("--frames", type=int, default=4800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=["all", *VIDEOS], default="all")
    options = parser.parse_args()
    wanted = list(VIDEOS) if options.size == "all" else [options.size]
    figures = {size: measure(VIDEOS[size](options.frames), options.frames, options.rounds) for size in wanted}
    report("throughput", vars(options), figures)


def measure(video: Path, frames: int, rounds: int) -> dict[str, Any]:
    """Let psm-stream and the loops take turns over one video."""
    runs: list[dict[str, Any]] = []
    bare: dict[str, list[float]] = {"with_decoding": [], "frames_in_memory": []}
    for turn in range(rounds):
        runs.append(stream_once(video))
        bare["with_decoding"].append(mesh_fps(video, decoding=True))
        bare["frames_in_memory"].append(mesh_fps(video, decoding=False))
        loops = ", ".join(f"{name} {fps[-1]:.0f}" for name, fps in bare.items())
        say(f"{video.name}, round {turn + 1}: psm-stream {runs[-1]['fps']:.0f} fps; bare FaceMesh {loops} fps")
    fps = median(run["fps"] for run in runs)
    return {
        "video": video.name,
        "frames_processed": at_least(frames, min(run["frames"]["processed"] for run in runs)),
        "frames_dropped": [run["frames"]["dropped"] for run in runs],
        "embeddings": [run["published"]["embedding"] for run in runs],
        "psm_stream_fps": {"median": fps, "rounds": [run["fps"] for run in runs]},
        "fps_with_start": round(median(run["fps_with_start"] for run in runs), 1),
        "cpu_ms_per_frame": round(median(run["cpu_ms_per_frame"] for run in runs), 2),
        "bare_facemesh_fps": {
            name: {"median": round(median(each), 1), "rounds": [round(one, 1) for one in each]}
            for name, each in bare.items()
        },
        "ratio": {name: at_least(GOAL, fps / median(each)) for name, each in bare.items()},
        "stage_ms_p50": {stage: taken["p50"] for stage, taken in runs[-1]["latency_ms"].items()},
    }


def stream_once(video: Path) -> dict[str, Any]:
    """Run psm-stream over the video; return its summary."""
    cpu_before_s = sum(psutil.Process().cpu_times()[2:4])
    with Stream("--source", str(video), "--pace", "fast") as stream:
        summary = stream.wait(within_s=3600)
        if not summary:
            raise SystemExit(f"psm-stream failed: {stream.said()}")
        seconds = stream.seconds_so_far()
    frames = summary["frames"]["processed"]
    cpu_s = sum(psutil.Process().cpu_times()[2:4]) - cpu_before_s  # of children that have ended; 0 on Windows
    return {**summary, "fps_with_start": frames / seconds, "cpu_ms_per_frame": 1e3 * cpu_s / frames}


if __name__ == "__main__":
    main()
