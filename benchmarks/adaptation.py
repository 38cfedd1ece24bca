"""How long it takes to make a person-specific model: 486 frames, 10 epochs, by each recipe. Prints JSON.

    python benchmarks/adaptation.py [--source demo|VIDEO|SNAPSHOT.npz] [--frames 486] [--device cpu|cuda]
                                    [--recipes NAME,...] [--epochs N] [--turns 3] [--published NAME,...]

`light` are whole adaptations of the general model that ships, whose generator is the light one: reading (snapshot,
screening, networks), training, checking (the gate, held open, so that whatever comes out is exported), exporting, and
the swap, from the bundle to a warm encoder. With `--epochs N` training ends after N epochs, and `whole_s` is scaled.

`published` is the same training with the published generator and VGG19, next to the authors' way of computing the step
(`plain_facecycle.authors_step`, float32). So big a model is not trained through here: after a warm-up, the two take
turns of one step each, and `whole_s` is the median step times the steps of 10 epochs, with our held-out loss after each
epoch and our gate on our side. VGG19's weights and the model's are random ones, which changes no duration.
Reading, export and swap are those of the light model: the encoder is the same.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from common import at_least, report, say
from training_step import Ours, Peer, about, faces

from psm_adapt.adaptation import recipes
from psm_adapt.adaptation.gate import held_out_loss, judge
from psm_adapt.adaptation.snapshot import SnapshotFaces, load_snapshot, split
from psm_adapt.adaptation.tuning import Progress, tune
from psm_adapt.adaptation.work import WorkJob, run
from psm_adapt.train.cycle import CycleTask
from psm_adapt.train.start import Start
from psm_adapt.train.world import World
from psm_stream.align import open_aligner
from psm_stream.align.crops import SIZE_PX
from psm_stream.config import AlignerSettings, EncoderSettings, FacesSettings, SourceSettings
from psm_stream.faces import RecentFaces
from psm_stream.loader import SwapRefused, open_aside
from psm_stream.sources import SOURCES, Picture
from psm_stream.values import Faces, Frame, Stamp, SwapEncoder

RECIPES = {"cpu": "cpu,paper", "cuda": "gpu,paper"}
NONE = "none"
OPEN_GATE = {
    "gate.gain": "0",
    "gate.informed": "0",
    "gate.neutral": "1e9",
    "gate.rank": "0",
    "gate.spread": "0",
    "gate.neighbours": "0",
}
"""So that a training of one epoch is exported, too."""
SWAPS = 5
GOAL_RATIO = 5.0
"""Our whole training with the published generator against the authors' steps alone."""


def main() -> None:
    options = parse()
    device = torch.device(options.device)
    figures: dict[str, dict[str, Any]] = {"light": {}, "published": {}}
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as folder:
        snapshot = snapshot_of(options.source, options.frames, Path(folder) / "snapshot.npz")
        for name in names(options.recipes):
            say(f"light, {name}")
            figures["light"][name] = adapted(name, snapshot, Path(folder) / name, options)
            say(str(figures["light"][name]))
        for name in names(options.published):
            say(f"published, {name}")
            figures["published"][name] = published(name, snapshot, options, device)
            say(str(figures["published"][name]))
    report("an adaptation from snapshot to swap", vars(options) | about(device), figures)


def names(text: str) -> list[str]:
    """Recipes by name."""
    return [] if text == NONE else text.split(",")


def adapted(name: str, snapshot: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Adapt the general model, and open what comes of it."""
    overrides = {"run.budget_s": "1e6", **OPEN_GATE}
    if options.epochs:
        overrides["run.stop_after"] = str(options.epochs)
    told: list[float] = []

    def tell(event: dict[str, Any]) -> None:
        if event.get("phase") == "training":
            told.append(synchronised(options.device))

    job = WorkJob(snapshot, "general", name, out, device=options.device, overrides=overrides)
    load = psutil.getloadavg()[0]
    cpu = time.process_time()
    outcome = run(job, tell, lambda: synchronised(options.device))
    cpu = time.process_time() - cpu
    found = outcome.adaptation
    steps = [after - before for before, after in pairwise(told)]
    seconds = found.seconds_by_phase
    asked = recipes.find(name, options.device).recipe.run.epochs
    if outcome.exported is not None:
        seconds = seconds | {"swap": swap_seconds(outcome.exported.bundle)}
    return {
        "frames": found.frames,
        "learned_from": found.frames - found.held_out,
        "steps": len(told),
        "epochs": found.epochs_done,
        "seconds": {phase: round(spent, 2) for phase, spent in seconds.items()},
        "whole_s": round(sum(seconds.values()) + seconds["training"] * (asked / found.epochs_done - 1), 1),
        "processor_s": round(cpu, 1),
        "step_median_s": round(statistics.median(steps), 4) if steps else None,
        "load_average_at_start": round(load, 2),
        "reason": found.reason,
    }


Taken = tuple[float, float]
"""s on the clock, and of processor time."""


class Enough(Exception):
    """So many steps were timed."""


@dataclass
class Turns:
    """After each of our steps the authors take theirs. The first of each is there to warm up.

    ours, theirs: s on the clock and s of processor time for each step; other programs disturb the second less.
    """

    authors: Callable[[], object]
    count: int
    device: str
    ours: list[Taken] = field(default_factory=list)
    theirs: list[Taken] = field(default_factory=list)
    began: Taken = (0.0, 0.0)

    def begin(self) -> None:
        """Note that our next step begins."""
        self.began = both_clocks(self.device)

    def tell(self, _: Progress) -> None:
        """Take note of our step, and let the authors take theirs."""
        ours = both_clocks(self.device)
        self.authors()
        theirs = both_clocks(self.device)
        self.ours.append((ours[0] - self.began[0], ours[1] - self.began[1]))
        self.theirs.append((theirs[0] - ours[0], theirs[1] - ours[1]))
        say(f"ours {self.ours[-1][0]:.3f} s, authors {self.theirs[-1][0]:.3f} s")
        if len(self.ours) > self.count:
            raise Enough
        self.begin()


def published(name: str, snapshot: Path, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time steps of the published design, ours and the authors', and scale them."""
    recipe = recipes.find(name, options.device).recipe
    shares = recipe.run.threads if device.type == "cpu" else 1
    if device.type == "cpu":
        torch.set_num_threads(shares)
    made = Ours(argparse.Namespace(design="facecycle", shares=shares, compile=False), device)
    peer = Peer(made.networks, made.perceptual)
    images = faces(2 * recipe.run.batch_size).to(device)
    stored = load_snapshot(snapshot)
    parts = split(stored)
    choose, last = (stored.only(rows).images().to(device) for rows in (parts.choose, parts.judge))
    start = Start(made.networks, made.perceptual, "random", "random")
    settings = recipe.training(made.networks.design, 0, "none")
    task = CycleTask(start, SnapshotFaces(stored, parts.train, "somebody", device), settings, World(0, 1, device))
    steps = sum(task.steps(epoch) for epoch in range(1, recipe.run.epochs + 1))
    turns = Turns(lambda: peer.step(images), options.turns, options.device)

    def validate() -> float:
        loss = held_out_loss(made.networks, made.perceptual, choose)
        turns.begin()
        return loss

    load = psutil.getloadavg()[0]
    with contextlib.suppress(Enough):
        tune(task, recipe, 0, validate=validate, clock=time.monotonic, tell=turns.tell)
    (ours, ours_cpu), (theirs, theirs_cpu) = (medians(taken[1:]) for taken in (turns.ours, turns.theirs))
    validation_s = timed(lambda: held_out_loss(made.networks, made.perceptual, choose), options.device)
    parent = made.networks  # the gate takes as long with a child that equals it
    checking_s = timed(lambda: judge(parent, parent, made.perceptual, last, recipe.gate), options.device)
    training = steps * ours + (recipe.run.epochs + 1) * validation_s
    return {
        "steps_timed": options.turns,
        "steps": steps,
        "ours": {
            "step_median_s": round(ours, 4),
            "step_median_processor_s": round(ours_cpu, 4),
            "held_out_loss_s": round(validation_s, 3),
            "scaled_s": {"training": round(training, 1), "checking": round(checking_s, 2)},
        },
        "authors": {
            "step_median_s": round(theirs, 4),
            "step_median_processor_s": round(theirs_cpu, 4),
            "scaled_s": {"training": round(steps * theirs, 1)},
        },
        "step_times_faster": at_least(GOAL_RATIO, theirs / ours),
        **({"step_times_less_processor_time": at_least(GOAL_RATIO, theirs_cpu / ours_cpu)} if ours_cpu else {}),
        "training_times_faster": at_least(GOAL_RATIO, steps * theirs / (training + checking_s)),
        "load_average_at_start": round(load, 2),
    }


def swap_seconds(bundle: Path) -> float:
    """Time from a bundle on the disk to a warm encoder, by the thread that the live path uses. Median of a few."""
    taken = []
    for _ in range(SWAPS):
        answers: queue.SimpleQueue[SwapEncoder | SwapRefused] = queue.SimpleQueue()
        began = time.perf_counter()
        open_aside(lambda: bundle, EncoderSettings(), "adapt", answers.put)
        answer = answers.get(timeout=60)
        taken.append(time.perf_counter() - began)
        if isinstance(answer, SwapRefused):
            raise SystemExit(f"the bundle does not open: {answer.why}")
    return statistics.median(taken)


def snapshot_of(source: str, frames: int, path: Path) -> Path:
    """Return the snapshot given, or write one of the first faces of a video or the demo, as the live path does."""
    if source.endswith(".npz"):
        return Path(source)
    say(f"a snapshot of {frames} faces of {source}")
    is_demo = source == "demo"
    settings = SourceSettings(kind="demo") if is_demo else SourceSettings(kind="file", path=source)
    pictures = SOURCES[settings.kind](settings, time.monotonic)
    aligner = open_aligner(AlignerSettings())
    recent = RecentFaces(FacesSettings(capacity=frames), SIZE_PX)
    pictures.open()
    index = 0
    while recent.written < frames and (picture := pictures.read()) is not None:
        if not isinstance(picture, Picture):
            continue
        stamp = Stamp(index, picture.t_source, picture.t_source)
        sighting = aligner(Frame(stamp, picture.image))
        for face in sighting.faces if isinstance(sighting, Faces) else ():
            recent.offer(face)
        index += 1
    pictures.close()
    aligner.close()
    return recent.snapshot(path).result()


def synchronised(device: str) -> float:
    """The time, s, when all that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()


def both_clocks(device: str) -> Taken:
    """The time as `synchronised` gives it, and the processor time of this process, s."""
    return synchronised(device), time.process_time()


def medians(taken: list[Taken]) -> Taken:
    """Medians of both."""
    wall, processor = (statistics.median(values) for values in zip(*taken, strict=True))
    return wall, processor


def timed(work: Callable[[], object], device: str) -> float:
    began = synchronised(device)
    work()
    return synchronised(device) - began


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time adaptations by phase, next to the authors' step; prints JSON.")
    parser.add_argument("--source", default="demo", help="demo (default), a video, or a snapshot .npz")
    parser.add_argument("--frames", type=int, default=486, help="of the snapshot (default 486, as published)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--recipes", help="whole adaptations; default cpu,paper or gpu,paper; or none")
    parser.add_argument("--epochs", type=int, help="end each adaptation after so many, and scale")
    parser.add_argument("--turns", type=int, default=3, help="timed steps of the published design (default 3)")
    parser.add_argument("--published", help="recipes for the published design; default the same; or none")
    options = parser.parse_args()
    options.recipes = options.recipes or RECIPES[options.device]
    options.published = options.published or RECIPES[options.device]
    return options


if __name__ == "__main__":
    main()
