"""Time one face through the shipped encoder, next to a bare ONNX Runtime loop over the same model. Prints JSON.

    python benchmarks/encode.py [--model BUNDLE] [--against BUNDLE] [--rounds N] [--threads N]

The candidates take turns in short rounds, so that a busy machine disturbs all of them alike. `--against` times a second
bundle in the same turns, for example the float32 form: `python -m psm_export.untrained --precision fp32 --out DIR`.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from psm_stream.bundle import ENCODER, general_bundle, open_bundle
from psm_stream.encoder import Encoder, open_encoder

CALLS_PER_ROUND = 20
CROP_PX = 128


def main() -> None:
    options = parse()
    candidates: dict[str, Callable[[], object]] = {}
    report: dict[str, object] = {"machine": machine(), "threads": options.threads, "crop_px": CROP_PX}
    for name, folder in {"encoder": options.model, "against": options.against}.items():
        if folder is None:
            continue
        started = time.perf_counter()
        encoder = open_encoder(open_bundle(folder), "cpu", options.threads)
        report[name] = {
            "model_id": encoder.model_id,
            "precision": encoder.bundle.manifest.precision,
            "trained": encoder.trained,
            "provider": encoder.provider,
            "open_ms": round(1e3 * (time.perf_counter() - started), 1),
        }
        candidates |= {name: whole(encoder), f"{name}_bare_onnxruntime": bare(folder, encoder, options.threads)}
    report["ms"] = {name: percentiles(taken) for name, taken in take_turns(candidates, options.rounds).items()}
    print(json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time the encoder; prints JSON")
    parser.add_argument("--model", type=Path, default=general_bundle(), help="bundle; the shipped one by default")
    parser.add_argument("--against", type=Path, default=None, help="a second bundle to time in the same turns")
    parser.add_argument("--rounds", type=int, default=20, help=f"turns of {CALLS_PER_ROUND} calls each")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads inside one inference")
    return parser.parse_args()


def whole(encoder: Encoder) -> Callable[[], object]:
    """What the live path does per face: check, scale down, infer."""
    crop = np.random.default_rng(0).integers(0, 256, (CROP_PX, CROP_PX, 3), dtype=np.uint8)
    return lambda: encoder.encode(crop)


def bare(folder: Path, encoder: Encoder, threads: int) -> Callable[[], object]:
    """The same model in a session of its own, with an input of the right size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / ENCODER, options, providers=["CPUExecutionProvider"])
    size = encoder.bundle.manifest.input.size_px
    crops = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    return lambda: session.run(None, {"crops": crops})


def take_turns(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, by candidate; one unmeasured round first."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, call in candidates.items():
            for _ in range(CALLS_PER_ROUND):
                started = time.perf_counter()
                call()
                if turn:
                    taken[name].append(time.perf_counter() - started)
    return taken


def percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p95 = (round(1e3 * float(np.percentile(seconds, q)), 2) for q in (50, 95))
    return {"p50": p50, "p95": p95, "calls": len(seconds)}


def machine() -> dict[str, str]:
    import onnxruntime

    return {"platform": platform.platform(), "cpu": cpu_name(), "onnxruntime": onnxruntime.__version__}


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
