"""Designs of the general model, each trained for the same time on one thread, and probed on people held out.

    python benchmarks/general_designs.py FOLDER [--minutes 7] [--designs NAME,...]

FOLDER is what `psm-adapt general` made: the stores `real`, `made` and `held_out`. Prints JSON: for each design how many
steps it came to, and the two probe scores of docs/evaluation.md, next to raw pixels, landmarks and blendshapes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report, say

from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.data.augment import plain
from psm_adapt.data.store import CropStore, open_store
from psm_adapt.evaluate.blendshape_labels import proxy_labels
from psm_adapt.evaluate.probe import Recording, Scores, across_people, within
from psm_adapt.general import settings
from psm_adapt.general.run import build_task, train_general
from psm_adapt.networks.design import build_networks
from psm_adapt.train.loop import Outcome
from psm_adapt.train.world import World

ENCODER = Path(__file__).resolve().parents[1] / "configs" / "general" / "encoder.yaml"
FACECYCLE = {"design.generator": "facecycle", "run.batch_size": "16", "optimiser.lr": "8e-5", "optimiser.beta1": "0.5"}
CYCLE = {"objective.teacher": "0", "objective.cycle": "1"}
DESIGNS: dict[str, dict[str, str]] = {
    "teacher": {},
    "teacher on real faces alone": {"draw.made": "0", "made": "none"},
    "cycle with light generator": {**CYCLE, "run.batch_size": "16", "draw.is_varied": "false"},
    "cycle with published generator": {**CYCLE, **FACECYCLE, "draw.is_varied": "false"},
    "temporal ranking": {"objective.teacher": "0", "objective.ranking": "1"},
    "teacher and temporal ranking": {"objective.ranking": "0.3"},
    "teacher and cycle": {"objective.cycle": "0.1", "run.batch_size": "16"},
}
FEWEST_FRAMES = 350
"""Recordings shorter than this are not probed."""


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("folder", type=Path)
    given.add_argument("--minutes", type=float, default=7.0)
    given.add_argument("--designs", default=",".join(DESIGNS))
    options = given.parse_args()
    torch.set_num_threads(1)
    stores = [open_store(options.folder / name) for name in ("real", "held_out")]
    figures: dict[str, Any] = {}
    for name, columns in (("landmarks", "landmarks"), ("blendshapes", "blendshapes")):
        figures[name] = probed(stores, lambda store, rows, c=columns: np.asarray(getattr(store, c)[rows]))
    figures["raw 64x64 pixels"] = probed(stores, pixels, 64)
    figures["untrained"] = probed(stores, encoded(build_networks(settings.load(ENCODER, {}).design, 0).encoder))
    for name in options.designs.split(","):
        say(name)
        with tempfile.TemporaryDirectory() as folder:
            outcome, seconds = trained(DESIGNS[name], options, Path(folder) / "run")
            encoder = open_checkpoint(Path(folder) / "run" / "last").networks().encoder
            figures[name] = {"steps": outcome.steps, "seconds": round(seconds)} | probed(stores, encoded(encoder))
        say(str(figures[name]))
    report("designs of the general model", {"minutes": options.minutes, "threads": 1}, figures)


def trained(overrides: dict[str, str], options: argparse.Namespace, out: Path) -> tuple[Outcome, float]:
    """Train a design for about so many minutes."""
    places = {"real": str(options.folder / "real"), "made": str(options.folder / "made"), "out": str(out)}
    run = {"run.epochs": "1", "run.tensorboard": "false", "run.collapse": "warn"}
    wanted = settings.load(ENCODER, places | run | overrides)
    steps = max(1, int(60 * options.minutes / step_seconds(wanted)))
    draw = wanted.draw.model_copy(update={"steps_per_epoch": steps})
    began = time.perf_counter()
    return train_general(wanted.model_copy(update={"draw": draw}), quiet=True), time.perf_counter() - began


def step_seconds(wanted: settings.GeneralSettings) -> float:
    """Time a few steps of a design, forward and backward, in bfloat16 as the loop does."""
    task = build_task(wanted, World(0, 1, torch.device("cpu")))
    task.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    times = []
    for batch in (next(task.batches(1, number)) for number in range(4)):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            total = task.loss(batch)["total"]
        total.backward()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def pixels(store: CropStore, rows: slice) -> np.ndarray:
    """Raw pixels of 64x64 RGB."""
    crops = np.asarray(store.crops[rows], np.float32).reshape(-1, 64, 2, 64, 2, 3).mean((2, 4))
    return crops.reshape(len(crops), -1)


def encoded(encoder: torch.nn.Module) -> Any:
    """Codes of an encoder, in float32."""

    def of(store: CropStore, rows: slice) -> np.ndarray:
        with torch.no_grad():
            pieces = [
                encoder(plain(store.images(np.arange(first, min(first + 128, rows.stop)))))
                for first in range(rows.start, rows.stop, 128)
            ]
        return torch.cat(pieces).numpy()

    return of


def probed(stores: list[CropStore], features: Any, components: int | None = None) -> dict[str, Any]:
    """Both probe scores, tested on the people of the second store."""
    recordings = []
    for store in stores:
        for one in store.recordings:
            if one.count < FEWEST_FRAMES:
                continue
            rows = slice(one.start, one.start + one.count)
            shapes = np.asarray(store.blendshapes[rows])
            known = np.isfinite(shapes).all(axis=1)
            values = features(store, rows).reshape(one.count, -1)
            recordings.append(Recording(one.person, values[known], proxy_labels(shapes[known]), store.t[rows][known]))
    held_out = stores[1].people
    inside = within([one for one in recordings if one.person in held_out])
    return {"within": by_person(inside), "across": by_person(across_people(recordings, components, held_out))}


def by_person(scores: Scores) -> dict[str, float]:
    """Mean and the score of each person."""
    each = {person: round(float(score), 3) for person, score in zip(scores.people, scores.by_person(), strict=True)}
    return {"mean": round(scores.mean(), 3)} | each


if __name__ == "__main__":
    main()
