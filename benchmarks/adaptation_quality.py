"""What a person-specific model says of a face, next to the general one: Figure 5 of PSM on people nobody trained on.

    python benchmarks/adaptation_quality.py STORE|[NAME=]VIDEO... [--recipe cpu] [--frames 486] [--seeds 0]
                                            [--epochs N] [--partial FILE]

STORE is a crop store with blendshapes (`psm-adapt crops --landmarker`); of videos one is made first. Everybody's
snapshot is the first 486 frames of their first recording (60 % of a shorter one). Their models are fine-tuned on it by
the recipe, as `psm-adapt finetune` does it, whatever the gate says of them:

    adapted      from the general model
    other start  from another person's adapted model: the next one's in the list
    scratch      from random weights

and probed within the person, blocked in time, on frames that come after the snapshot: the rest of the recording but for
one second, and any further recordings of the same person. Labels are action unit proxies (docs/evaluation.md). Next to
them are the general model as it ships and raw pixels. With several seeds a person's score is the mean over the seeds.

Prints JSON on stdout, and a table and progress on stderr. People are the sample: models are compared paired over them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import installed, report, say
from general_designs import encoded, pixels
from numpy.typing import NDArray

from psm_adapt.adaptation import recipes
from psm_adapt.adaptation.gate import Judgement, held_out_loss, judge
from psm_adapt.adaptation.recipes import Recipe
from psm_adapt.adaptation.snapshot import Snapshot, SnapshotFaces, split
from psm_adapt.adaptation.tuning import Tuned, tune
from psm_adapt.checkpoint import Checkpoint, open_checkpoint
from psm_adapt.data.store import STORE, CropStore, open_store
from psm_adapt.evaluate.blendshape_labels import proxy_labels
from psm_adapt.evaluate.compare import compare
from psm_adapt.evaluate.probe import Recording, within
from psm_adapt.general.shipped import general_checkpoint
from psm_adapt.networks.design import Networks, build_networks
from psm_adapt.train.cycle import CycleTask
from psm_adapt.train.start import Start, perceptual_of
from psm_adapt.train.world import World

ADAPTED, GENERAL, PIXELS, SCRATCH, OTHER = "adapted", "general", "raw pixels", "scratch", "other start"
SHARE = 0.6
"""Of a recording that is too short for a whole snapshot, so much is the snapshot."""
MARGIN_S = 1.0
"""Left out after the snapshot."""
FEWEST = 150
"""Frames after the snapshot, at least; with fewer nobody can be probed."""
CPU = torch.device("cpu")


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as folder:
        store = open_inputs(options.inputs, Path(folder))
        people = [person for name in store.people if (person := person_of(store, name, options.frames))]
        if len(people) < 2:
            raise SystemExit("two people or more are needed, with recordings long enough to probe after the snapshot")
        overrides = {"run.budget_s": "1e6"} | ({"run.epochs": str(options.epochs)} if options.epochs else {})
        found = recipes.find(options.recipe, "cpu", overrides)
        study = Study(store, people, found.recipe, open_checkpoint(general_checkpoint()))
        for figures in study.run(options.seeds):
            if options.partial:
                options.partial.write_text(json.dumps(figures, indent=2, default=str))
    say(table(figures))
    report("quality of adapted models", vars(options) | {"threads": 1}, figures)


@dataclass(frozen=True)
class Person:
    """Somebody's snapshot, and what is probed. spans: rows after the snapshot, one slice for each recording."""

    name: str
    snapshot: Snapshot
    spans: tuple[slice, ...]
    known: tuple[NDArray[np.bool_], ...]
    """For each span bool [n]: where there are blendshapes."""
    labels: tuple[NDArray[np.bool_], ...]
    """For each span bool [known, 12]."""


@dataclass(frozen=True)
class Model:
    """What fine-tuning came to."""

    networks: Networks
    tuned: Tuned
    judgement: Judgement

    def figures(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "best_epoch": self.tuned.epoch,
            "epochs": self.tuned.epochs,
            "steps": self.tuned.steps,
            "seconds": round(self.tuned.seconds, 1),
            "validation": [round(loss, 4) for loss in self.tuned.validation],
            "gate": {"accepted": self.judgement.accepted, "reason": self.judgement.reason},
            "gate_figures": {key: round(value, 4) for key, value in self.judgement.figures.items()},
        }


@dataclass
class Study:
    """Everybody's models and their scores."""

    store: CropStore
    people: list[Person]
    recipe: Recipe
    general: Checkpoint
    scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By approach and person, one for each seed."""
    models: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def run(self, seeds: list[int]) -> Iterator[dict[str, Any]]:
        """Do everything, the shortest first. Yields the figures so far."""
        encoder = self.general.networks().encoder.eval()
        for person in self.people:
            self._score(GENERAL, person, encoded(encoder))
            self._score(PIXELS, person, pixels)
        for seed in seeds:
            adapted: dict[str, Networks] = {}
            for person in self.people:
                model = self._tune(ADAPTED, person, self.general.networks(), seed)
                adapted[person.name] = model.networks
                yield self.figures()
            for person, other in zip(self.people, [*self.people[1:], self.people[0]], strict=True):
                self._tune(OTHER, person, adapted[other.name], seed)
                yield self.figures()
            for person in self.people:
                self._tune(SCRATCH, person, build_networks(self.general.design, seed), seed)
                yield self.figures()

    def figures(self) -> dict[str, Any]:
        """The scores so far."""
        known = {name: self._by_person(name) for name in self.scores}
        whole = {name: scores for name, scores in known.items() if len(scores) == len(self.people)}
        return {
            "people": {person.name: self._about(person) for person in self.people},
            "f1": {name: {"mean": mean(scores.values()), **rounded(scores)} for name, scores in known.items()},
            "f1_of_each_seed": self.scores,
            "adapted_less": {
                name: asdict(compare(np.array([*whole[ADAPTED].values()]), np.array([*scores.values()])))
                for name, scores in whole.items()
                if ADAPTED in whole and name != ADAPTED
            },
            "models": self.models,
        }

    def _tune(self, approach: str, person: Person, start: Networks, seed: int) -> Model:
        model = fine_tuned(self.general, start, person, self.recipe, seed)
        self._score(approach, person, encoded(model.networks.encoder.eval()))
        self.models.setdefault(approach, {}).setdefault(person.name, []).append(model.figures())
        say(f"  gate: {model.judgement.reason}; {model.tuned.seconds:.0f} s, best epoch {model.tuned.epoch}")
        return model

    def _score(self, approach: str, person: Person, features: Any) -> None:
        probed = [
            Recording(person.name, features(self.store, span)[known], labels, self.store.t[span][known])
            for span, known, labels in zip(person.spans, person.known, person.labels, strict=True)
        ]
        score = within(probed).mean()
        self.scores.setdefault(approach, {}).setdefault(person.name, []).append(score)
        say(f"{person.name}, {approach}: {score:.3f}")

    def _by_person(self, approach: str) -> dict[str, float]:
        return {person: float(np.mean(scores)) for person, scores in self.scores[approach].items()}

    def _about(self, person: Person) -> dict[str, Any]:
        return {"snapshot": len(person.snapshot), "probed": [span.stop - span.start for span in person.spans]}


def fine_tuned(general: Checkpoint, start: Networks, person: Person, recipe: Recipe, seed: int) -> Model:
    """Fine-tune a copy of the networks, and ask the gate, whose answer changes nothing here."""
    about = general.about
    settings = recipe.training(about.design, seed, about.licence)
    perceptual, perceived = perceptual_of(settings)
    parts = split(person.snapshot)
    child, parent = (build_networks(about.design, 0) for _ in range(2))
    for networks in (child, parent):
        networks.load_state_dict(start.state_dict())
    child.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = CycleTask(
        Start(child, perceptual, perceived, about.stem, about.model_id),
        SnapshotFaces(person.snapshot, parts.train, person.name, CPU),
        settings,
        World(0, 1, CPU),
    )
    choose, last = (person.snapshot.only(rows).images() for rows in (parts.choose, parts.judge))
    tuned = tune(task, recipe, seed, validate=lambda: held_out_loss(child, perceptual, choose), clock=time.monotonic)
    with torch.no_grad():
        for weight in child.parameters():
            weight.copy_(weight.half())  # as it is exported
    return Model(child, tuned, judge(parent, child, perceptual, last, recipe.gate))


def open_inputs(inputs: list[str], folder: Path) -> CropStore:
    """Open the store, or make one of the videos."""
    if len(inputs) == 1 and (Path(inputs[0]) / STORE).is_file():
        return open_store(Path(inputs[0]))
    for given in inputs:
        name, is_named, place = given.rpartition("=")
        person = ("--person", name) if is_named else ()
        command = [installed("psm-adapt"), "crops", place, *person, "--out", str(folder / "store"), "--landmarker"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return open_store(folder / "store")


def person_of(store: CropStore, name: str, frames: int) -> Person | None:
    """Cut somebody's recordings; None where too little comes after the snapshot."""
    if store.blendshapes is None:
        raise SystemExit(f"{store.folder} has no blendshapes; make it with psm-adapt crops --landmarker")
    first, *others = (one for one in store.recordings if one.person == name)
    count = min(frames, int(SHARE * first.count))
    end = first.start + first.count
    after = first.start + int(np.searchsorted(store.t[first.start : end], store.t[first.start + count - 1] + MARGIN_S))
    spans, masks, labels = [], [], []
    for start, recording in ((after, first), *((other.start, other) for other in others)):
        rows = slice(recording.start, recording.start + recording.count)
        shapes = np.asarray(store.blendshapes[rows])
        known = np.isfinite(shapes).all(axis=1)
        is_probed = known & (np.arange(rows.start, rows.stop) >= start)
        if np.count_nonzero(is_probed) >= FEWEST:
            spans.append(slice(start, rows.stop))
            masks.append(known[start - rows.start :])
            labels.append(proxy_labels(shapes[known])[is_probed[known]])
    if not spans:
        say(f"{name}: fewer than {FEWEST} frames after the snapshot, left out")
        return None
    snapshot = snapshot_of(store, slice(first.start, first.start + count))
    return Person(name, snapshot, tuple(spans), tuple(masks), tuple(labels))


def snapshot_of(store: CropStore, rows: slice) -> Snapshot:
    """Some rows of a store as the live path would have written them."""
    t, count = np.asarray(store.t[rows], np.float64), rows.stop - rows.start
    return Snapshot(
        crops=np.array(store.crops[rows]),
        landmarks=np.array(store.landmarks[rows]),
        frame_index=np.asarray(store.frame_index[rows], np.int64),
        face_id=np.zeros(count, np.int32),
        t_capture=t,
        t_source=t,
        confidence=np.asarray(store.confidence[rows], np.float32),
    )


def mean(values: Any) -> float:
    return round(float(np.mean([*values])), 4)


def rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(score, 4) for name, score in scores.items()}


def table(figures: Mapping[str, Any]) -> str:
    """F1 by approach and person, and what adapting adds."""
    names = ["mean", *figures["people"]]
    lines = [f"{'F1':12s}" + "".join(f"{name:>10s}" for name in names)]
    lines += [
        f"{approach:12s}" + "".join(f"{scores[name]:10.3f}" for name in names)
        for approach, scores in sorted(figures["f1"].items(), key=lambda item: -item[1]["mean"])
    ]
    lines += [
        f"adapted less {name}: {found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}], "
        f"better in {found['better']} of {found['people']}, p {found['p_bootstrap']:.3f}"
        for name, found in figures["adapted_less"].items()
    ]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Probe adapted models next to the general one; prints JSON.")
    parser.add_argument("inputs", nargs="+", help="a crop store with blendshapes, or [NAME=]VIDEO ...")
    parser.add_argument("--recipe", default="cpu")
    parser.add_argument("--frames", type=int, default=486, help="of a snapshot (default 486, as published)")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--partial", type=Path, help="write the figures so far here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
