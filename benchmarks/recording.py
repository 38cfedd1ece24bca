"""What recording costs, and what a crash takes from it.

    python benchmarks/recording.py [--frames 3000] [--kills 5] [--runs 3]

`crop`: ways to keep a 128 px crop without loss, for a photographed face that moves, with camera noise; time on one core
and size. `recorder`: its thread's own time for one frame with everything that belongs to it (face, embedding and
landmark messages), size on disk, memory gained, and how long the caller was held, at worst.
`crash`: psm-stream is killed (SIGKILL) while it records the demo; `lost_s` is how much of what this process had
received is not in the session, which is then verified. `fps`: psm-stream over the demo at the fast pace, with and
without recording, in turn.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import psutil
import skimage.data
import zstandard
from common import PATIENCE_S, Stream, at_most, free_port, installed, percentiles, report, say

from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.client import Subscriber
from psm_stream.client.messages import decode_header
from psm_stream.config import RecordSettings
from psm_stream.encoder import open_encoder
from psm_stream.record.reader import Session
from psm_stream.record.testing import a_face, a_stamp
from psm_stream.record.writer import Opening, Recorder
from psm_stream.values import Embedding, Faces
from psm_stream.wire.messages import MessageBuilder

LOSS_GOAL_S = 0.5
CORE_GOAL = 0.05
FPS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description="cost of recording, loss in a crash; prints JSON")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    crops = moving_crops()
    figures = {"crop": crop_costs(crops), "recorder": recorder_cost(crops, options.frames)}
    figures["crash"] = crashes(options.kills)
    figures["fps"] = throughput(options.runs)
    report("recording", vars(options), figures)


def moving_crops(count: int = 64) -> list[np.ndarray]:
    """Return [128, 128, 3] crops of a photographed face that drifts and turns a little, with noise of 2 grey levels."""
    draw, photo = np.random.default_rng(0), skimage.data.astronaut()
    crops = []
    for number in range(count):
        turn = 0.02 * np.sin(number / 5)
        place = np.array([[1, turn, 3 * np.sin(number / 7) - 160], [-turn, 1, 2 * np.cos(number / 9) - 50]])
        crop = cv2.warpAffine(photo, place, (128, 128), flags=cv2.INTER_LINEAR)
        crops.append(np.clip(crop + draw.normal(0, 2, crop.shape), 0, 255).astype(np.uint8))
    return crops


def crop_costs(crops: list[np.ndarray]) -> dict[str, Any]:
    pack = zstandard.ZstdCompressor(level=1).compress

    def rows(crop: np.ndarray) -> bytes:
        differences = crop.copy()
        differences[1:] -= crop[:-1]
        return differences.tobytes()

    ways: dict[str, Callable[[np.ndarray], Any]] = {
        "png_level_1": lambda crop: cv2.imencode(".png", crop, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1],
        "webp_lossless": lambda crop: cv2.imencode(".webp", crop, [cv2.IMWRITE_WEBP_QUALITY, 101])[1],
        "zstd_1": lambda crop: pack(crop.tobytes()),
        "zstd_1_of_row_differences": lambda crop: pack(rows(crop)),
    }
    costs = {}
    for name, way in ways.items():
        times, sizes = [], []
        for crop in crops:
            start = time.thread_time()
            sizes.append(len(way(crop)))
            times.append(time.thread_time() - start)
        costs[name] = {"ms": round(median(times) * 1e3, 3), "kb": round(sum(sizes) / len(sizes) / 1e3, 1)}
        say(f"{name}: {costs[name]}")
    return costs


def recorder_cost(crops: list[np.ndarray], frames: int) -> dict[str, Any]:
    """Record frames as fast as the recorder takes them, as for a file at the fast pace."""
    encoder = open_encoder(open_bundle(general_bundle()), "cpu")
    builder = MessageBuilder("0" * 32, "msgpack", time.monotonic)
    face = a_face(a_stamp(0), size_px=128)
    vector = encoder.encode(face.crop)
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root:
        settings = RecordSettings(root=Path(root), min_free_gb=0)
        opening = Opening("0" * 32, {}, "benchmark", encoder)
        recorder = Recorder.start(settings, opening, lambda _: None, wait_when_full=True)
        memory_mb = psutil.Process().memory_info().rss / 1e6
        held = []
        for index in range(frames):
            stamp = a_stamp(index)
            seen = replace(face, frame=stamp, crop=crops[index % len(crops)])
            messages = builder.build(Embedding(seen, vector, encoder.model_id, 0))
            start = time.perf_counter()
            recorder.input(Faces(stamp, (seen,)))
            for message in messages:
                recorder.message(message)
            held.append((time.perf_counter() - start) * 1e3)
        seconds = thread_seconds("recorder")
        memory_mb = psutil.Process().memory_info().rss / 1e6 - memory_mb
        recorder.stop()
        recorder.join()
        size = sum(path.stat().st_size for path in recorder.folder.glob("*.mcap"))
    ms = seconds / frames * 1e3
    say(f"recorder: {ms:.3f} ms a frame")
    return {
        "ms_a_frame": round(ms, 3),
        "of_a_core_at_30_fps": at_most(CORE_GOAL, ms * FPS / 1e3),
        "kb_a_frame": round(size / frames / 1e3, 1),
        "memory_gained_mb": round(memory_mb, 1),
        "caller_held_ms_flat_out": percentiles(held, 3),
    }


def thread_seconds(name: str) -> float:
    """CPU time of a thread of this process so far."""
    (wanted,) = [thread.native_id for thread in threading.enumerate() if thread.name == name]
    return sum(thread.user_time + thread.system_time for thread in psutil.Process().threads() if thread.id == wanted)


def crashes(kills: int) -> dict[str, Any]:
    rounds = []
    for number in range(kills):
        rounds.append(crash(random.Random(number).uniform(0.3, 3)))
        say(f"kill {number + 1}: {rounds[-1]}")
    worst = max((round_["lost_s"] for round_ in rounds), default=None)
    return {"lost_s_worst": at_most(LOSS_GOAL_S, worst), "rounds": rounds}


def crash(after_s: float) -> dict[str, Any]:
    """Kill a recording after so long; return what it lost, and whether the rest verifies."""
    port = free_port(4)
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root:
        options = ("--source", "demo", "--record", root, "--control-port", str(port))
        with (
            Subscriber(topics=["embedding."], publish_address=str(port + 1)) as subscriber,
            Stream(*options) as stream,
        ):
            received = []
            while not received or received[-1] - received[0] < after_s:
                message = subscriber.receive(PATIENCE_S)
                if message is None:
                    raise SystemExit(f"no embedding came: {stream.said()}")
                received.append(message.header["t_publish"])
            stream.process.send_signal(signal.SIGKILL)
            stream.process.wait(PATIENCE_S)
        (folder,) = [path.parent for path in Path(root).glob("*/*/info.json")]
        kept = [decode_header(message.header)["t_publish"] for message in Session(folder).messages()]
        command = [installed("psm-replay"), str(folder), "--verify", "--json", "--quiet"]
        verified = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return {
        "killed_after_s": round(after_s, 2),
        "lost_s": round(max(0.0, received[-1] - max(kept, default=received[0])), 3),
        "exit_code_of_verify": verified.returncode,
        "embeddings_compared": json.loads(verified.stdout)["embeddings"] if verified.stdout else None,
    }


def throughput(runs: int, frames: int = 600) -> dict[str, Any]:
    fps: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(runs):
        for kind, found in fps.items():
            with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root:
                record = ("--record", root) if kind == "with" else ()
                options = ("--source", "demo", "--pace", "fast", "--frames", str(frames), *record)
                with Stream(*options) as stream:
                    found.append(stream.wait(PATIENCE_S)["fps"])
            say(f"{kind} recording: {found[-1]} fps")
    ratio = median(fps["with"]) / median(fps["without"]) if runs else None
    return {**fps, "with_over_without": None if ratio is None else round(ratio, 3)}


if __name__ == "__main__":
    main()
