"""Time an encoder on every device that is here: CPU, CUDA with and without CUDA graphs, TensorRT. Prints JSON.

    python benchmarks/gpu_encoder.py [--model BUNDLE] [--calls N] [--threads N]

Each row is the live path's own encoder: check, scale, copy there, infer, copy back, one face at a time. Beside it, in
the same turns, stands ONNX Runtime's plain `run` on the CPU over the same input. What is not available says why. A
device's vectors are compared with the CPU's.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from psm_stream import devices
from psm_stream.align.crops import crops_of
from psm_stream.bundle import ENCODER, EncoderBundle, general_bundle, open_bundle
from psm_stream.devices import Device
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.errors import PsmError
from psm_stream.gpu import read_gpu

CALLS_PER_TURN = 20
WARM_UP = 50
ROWS: tuple[tuple[str, Device, bool], ...] = (
    ("cpu", "cpu", False),
    ("cuda", "cuda", False),
    ("cuda with graphs", "cuda", True),
    ("tensorrt", "tensorrt", False),
    ("tensorrt with graphs", "tensorrt", True),
)


def main() -> None:
    options = parse()
    bundle = open_bundle(options.model)
    size_px = crops_of(bundle.manifest).size_px
    crops = np.random.default_rng(0).integers(0, 256, (CALLS_PER_TURN, size_px, size_px, 3), dtype=np.uint8)
    report: dict[str, Any] = {
        **machine(),
        "model_id": bundle.manifest.model_id,
        "precision": bundle.manifest.precision,
        "input_px": bundle.manifest.input.size_px,
        "crop_px": size_px,
        "threads": options.threads,
        "not_available": {},
    }
    opened, report["opening_s"] = open_all(bundle, options.threads, report["not_available"])
    calls = {name: one.encode for name, one in opened.items()} | {"cpu, plain run": plain_run(bundle, options.threads)}
    taken = take_turns(calls, crops, max(1, options.calls // CALLS_PER_TURN))
    report["ms"] = {name: percentiles(seconds) for name, seconds in taken.items()}
    report["faces_per_s"] = {name: round(len(seconds) / sum(seconds), 1) for name, seconds in taken.items()}
    report["max_abs_from_cpu"] = apart(opened, crops)
    print(json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time the encoder on every device; prints JSON")
    parser.add_argument("--model", type=Path, default=general_bundle(), help="bundle; the shipped one by default")
    parser.add_argument("--calls", type=int, default=1000, help="inferences on each device")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads inside one inference")
    return parser.parse_args()


def machine() -> dict[str, Any]:
    import onnxruntime

    try:
        gpu: object = asdict(read_gpu())
    except PsmError as error:
        gpu = str(error)
    return {"platform": platform.platform(), "gpu": gpu, "onnxruntime": onnxruntime.__version__}


def open_all(
    bundle: EncoderBundle, threads: int, not_available: dict[str, str]
) -> tuple[dict[str, Encoder], dict[str, float]]:
    """Open the encoder in every way; what cannot be goes into `not_available` with the reason."""
    opened, seconds = {}, {}
    for name, device, graphs in ROWS:
        start = time.perf_counter()
        try:
            encoder = open_encoder(bundle, device, threads, graphs=graphs)
        except PsmError as error:
            not_available[name] = str(error)
            continue
        if graphs and not encoder.graphs:
            not_available[name] = encoder.why
            continue
        seconds[name] = round(time.perf_counter() - start, 3)
        encoder.warm_up(WARM_UP)
        opened[name] = encoder
    return opened, seconds


def plain_run(bundle: EncoderBundle, threads: int) -> Callable[[Any], object]:
    """Scale, and run the model as anybody would: new arrays for each call."""
    import cv2

    session = devices.open_session(bundle.read(ENCODER), "cpu", threads).session
    side = bundle.manifest.input.size_px
    return lambda crop: session.run(None, {"crops": cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)[None]})


def take_turns(calls: dict[str, Callable[[Any], object]], crops: Any, turns: int) -> dict[str, list[float]]:
    """Seconds of each call; they take turns, so that a busy machine disturbs all alike. One unmeasured turn first."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            for crop in crops:
                start = time.perf_counter()
                call(crop)
                if turn:
                    taken[name].append(time.perf_counter() - start)
    return taken


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{q}": round(1e3 * float(np.percentile(seconds, q)), 3) for q in (50, 95, 99)} | {"calls": len(seconds)}


def apart(opened: dict[str, Encoder], crops: Any) -> dict[str, float]:
    """Largest difference of a value from the CPU's."""
    expected = np.stack([opened["cpu"].encode(crop) for crop in crops])
    return {
        name: float(np.abs(np.stack([one.encode(crop) for crop in crops]) - expected).max())
        for name, one in opened.items()
    }


if __name__ == "__main__":
    main()
