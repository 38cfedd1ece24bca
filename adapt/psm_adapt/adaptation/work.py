"""One adaptation from beginning to end: snapshot, screening, fine-tuning, gate, export. `run` is the whole flow.

The worker runs it beside a live stream, `psm-adapt finetune` runs it offline, `psm-replay --adapt rerun` runs it again.
Same snapshot, base, recipe, seed, device and versions: the same weights (on CUDA as far as its kernels allow).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from torch import nn

import psm_stream
from psm_adapt.adaptation import recipes
from psm_adapt.adaptation.exporting import Exported, export_model
from psm_adapt.adaptation.gate import held_out_loss, judge
from psm_adapt.adaptation.recipes import Recipe
from psm_adapt.adaptation.screening import screen
from psm_adapt.adaptation.snapshot import Snapshot, SnapshotFaces, Split, load_snapshot, split
from psm_adapt.adaptation.tuning import Progress, Tuned, tune
from psm_adapt.checkpoint import About, Checkpoint, open_checkpoint
from psm_adapt.general.shipped import general_checkpoint
from psm_adapt.networks.design import Networks
from psm_adapt.train.cycle import CycleTask
from psm_adapt.train.start import GENERAL, Start, perceptual_of
from psm_adapt.train.world import World
from psm_export.checkpoint import TRAINING_DATA, training_data_of
from psm_stream.adaptation.layout import ADAPTATION, CHECKPOINT
from psm_stream.bundle import MANIFEST, general_bundle, open_bundle
from psm_stream.errors import AdaptationError, ConfigError
from psm_stream.people import base_named

SCHEMA = 1
SOMEBODY = "somebody"
"""Name of a person that has none."""

Tell = Callable[[dict[str, Any]], None]
"""Takes one event: a dict with the key `event`, as docs/adaptation.md lists them."""

_VERSIONS = ("torch", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class WorkJob:
    """What is to be done.

    snapshot: the file. base: `general`, `person:NAME`, `person:NAME/NNN`, a checkpoint folder, or a model's folder with
    `checkpoint/` in it. config: a recipe's name or file. out: folder for the result, new or empty. budget_s: less time
    than the recipe has, if set. overrides: dotted keys of the recipe.
    """

    snapshot: Path
    base: str
    config: str
    out: Path
    seed: int = 0
    person: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    budget_s: float | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)


class Adaptation(BaseModel):
    """What became of an adaptation, schema 1: the file adaptation.json, and the fields of `done` and `rejected`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    accepted: bool
    reason: str
    model_id: str | None = None
    checkpoint_id: str | None = None
    parent: str
    parent_checkpoint: str
    person: str | None
    seed: int
    device: str
    recipe_name: str
    recipe: dict[str, JsonValue]
    frames: int
    held_out: int = 0
    epochs: int = 0
    epochs_done: int = 0
    seconds: float = 0.0
    seconds_by_phase: dict[str, float] = Field(default_factory=dict)
    loss_before: float | None = None
    loss_after: float | None = None
    validation: list[float] = Field(default_factory=list)
    losses: list[float] = Field(default_factory=list)
    figures: dict[str, float | None] = Field(default_factory=dict)
    """Of screening and gate; None where there is no number, as with too few faces for neighbours."""
    snapshot_sha256: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it; exported is None when it was rejected. parent, child: the networks, for whoever looks on.

    child, parts: None where it was rejected before any training.
    """

    adaptation: Adaptation
    exported: Exported | None
    parent: Networks
    child: Networks | None
    snapshot: Snapshot
    parts: Split | None


@dataclass(frozen=True, slots=True)
class Base:
    """What an adaptation starts from. model_id: of the bundle that runs it live, else the checkpoint's own."""

    checkpoint: Checkpoint
    model_id: str


def open_base(base: str) -> Base:
    """Open what `WorkJob.base` names.

    Raises CheckpointError, BundleError, AdaptationError: it is missing or damaged. ConfigError: no such person.
    """
    if base == GENERAL:
        return Base(open_checkpoint(general_checkpoint()), open_bundle(general_bundle()).manifest.model_id)
    folder = Path(base_named(base))
    checkpoint = open_checkpoint(folder / CHECKPOINT if (folder / CHECKPOINT).is_dir() else folder)
    if (folder / MANIFEST).is_file():
        return Base(checkpoint, open_bundle(folder).manifest.model_id)
    return Base(checkpoint, checkpoint.about.model_id)


def run(job: WorkJob, tell: Tell = lambda _: None, clock: Callable[[], float] = time.monotonic) -> Outcome:
    """Adapt, and leave the result in the job's folder. tell: takes `started`, `progress`, and `done` or `rejected`.

    Raises PsmError: the snapshot, base or recipe cannot be used, training went wrong, or the disk refuses.
    """
    return _Work(job, tell, clock).run()


class _Work:
    """One adaptation under way."""

    def __init__(self, job: WorkJob, tell: Tell, clock: Callable[[], float]) -> None:
        if job.out.exists() and (not job.out.is_dir() or any(job.out.iterdir())):
            raise ConfigError(f"--out {job.out} exists and is not an empty folder; give a new one")
        self.job, self._tell, self._clock = job, tell, clock
        self.device = _device(job.device)
        overrides = dict(job.overrides)
        if job.budget_s is not None:
            overrides["run.budget_s"] = str(job.budget_s)
        self.found = recipes.find(job.config, self.device.type, overrides)
        self.recipe: Recipe = self.found.recipe
        self.started = clock()
        self.spent: dict[str, float] = {}
        self._phase, self._since = "reading", self.started

    def run(self) -> Outcome:
        self._enter("reading")
        torch.set_num_threads(1 if self.device.type == "cpu" else torch.get_num_threads())
        base = open_base(self.job.base)
        snapshot = load_snapshot(self.job.snapshot)
        parent = base.checkpoint.networks()
        about = {**self._about(base), "frames": len(snapshot), "snapshot_sha256": snapshot.sha256}
        newest = snapshot.only(np.arange(len(snapshot))[-self.recipe.run.faces :])
        screening = screen(newest, self.recipe.screen)
        about["figures"] = _finite(screening.figures)
        if screening.refused:
            return self._rejected(about, screening.refused, parent, snapshot)
        kept = newest.only(screening.rows)
        parts = split(kept)
        about |= {"frames": len(kept), "held_out": len(parts.choose) + len(parts.judge)}
        child, perceptual, tuned = self._tune(base, copy.deepcopy(parent), kept, parts)
        about |= {"epochs": tuned.epoch, "epochs_done": tuned.epochs}
        about |= {"validation": list(tuned.validation), "losses": list(tuned.losses)}
        self._enter("checking")
        images = kept.only(parts.judge).images().to(self.device)
        judgement = judge(parent.to(self.device), child, perceptual, images, self.recipe.gate)
        about |= {"loss_before": judgement.loss_before, "loss_after": judgement.loss_after}
        about["figures"] = _finite({**screening.figures, **judgement.figures})
        reason = f"{judgement.reason}; {tuned.why}"
        if not judgement.accepted:
            return self._rejected(about, reason, parent, kept, parts=parts, child=child)
        self._enter("exporting")
        exported = self._export(base, child, kept, tuned)
        about |= {"model_id": exported.model_id, "checkpoint_id": exported.checkpoint_id}
        adaptation = self._finish(about, True, reason)
        paths = {"bundle": str(exported.bundle.absolute()), "checkpoint": str(exported.checkpoint.absolute())}
        self._tell({"event": "done", **_plain(adaptation), **paths})
        return Outcome(adaptation, exported, parent, child, kept, parts)

    def _tune(
        self, base: Base, child: Networks, snapshot: Snapshot, parts: Split
    ) -> tuple[Networks, nn.Module | None, Tuned]:
        """Fine-tune a copy of the parent. Its weights are then those that half precision can hold."""
        about = base.checkpoint.about
        settings = self.recipe.training(about.design, self.job.seed, about.licence)
        perceptual, perceived = perceptual_of(settings)
        perceptual = perceptual.to(self.device) if perceptual is not None else None
        child = child.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        person = self.job.person or SOMEBODY
        faces = SnapshotFaces(snapshot, parts.train, person, self.device)
        start = Start(child, perceptual, perceived, about.stem, about.model_id)
        task = CycleTask(start, faces, settings, World(0, 1, self.device))
        chosen_by = snapshot.only(parts.choose).images().to(self.device)
        self._say_started(base, snapshot, parts, sum(task.steps(n) for n in range(1, self.recipe.run.epochs + 1)))
        self._enter("training")
        tuned = tune(
            task,
            self.recipe,
            self.job.seed,
            validate=lambda: held_out_loss(child, perceptual, chosen_by),
            clock=self._clock,
            tell=self._progress,
        )
        with torch.no_grad():
            for weight in child.parameters():
                weight.copy_(weight.half())
        return child, perceptual, tuned

    def _export(self, base: Base, child: Networks, snapshot: Snapshot, tuned: Tuned) -> Exported:
        parent = base.checkpoint.about
        about = About(
            design=parent.design,
            stem=parent.stem,
            perceptual=parent.perceptual,
            licence=parent.licence,
            created_by=f"psm-stream {psm_stream.__version__}",
            note=f"person-specific: {self.found.name} on {len(snapshot)} faces",
            epoch=tuned.epoch,
            step=tuned.steps,
            person=self.job.person,
            parent=parent.model_id,
            training={
                TRAINING_DATA: [*training_data_of(parent.training), _faces_of(self.job.person, len(snapshot))],
                "recipe": self.found.name,
                "settings": self.recipe.model_dump(mode="json"),
                "seed": self.job.seed,
                "device": self.device.type,
                "frames": len(snapshot),
                "snapshot": snapshot.sha256[:12],
                "parent_model": base.model_id,
            },
        )
        name = self.job.person or SOMEBODY
        return export_model(
            self.job.out,
            child.cpu(),
            about,
            snapshot.crops,
            precision=self.recipe.export.precision,
            name=name,
            parent=base.model_id,
            tell=lambda step, steps: self._tell(
                self._event("progress", phase="exporting") | {"step": step, "steps": steps}
            ),
            clock=self._clock,
        )

    def _rejected(
        self,
        about: dict[str, Any],
        reason: str,
        parent: Networks,
        snapshot: Snapshot,
        *,
        parts: Split | None = None,
        child: Networks | None = None,
    ) -> Outcome:
        adaptation = self._finish(about, False, reason)
        self._tell({"event": "rejected", **_plain(adaptation)})
        return Outcome(adaptation, None, parent, child, snapshot, parts)

    def _finish(self, about: dict[str, Any], accepted: bool, reason: str) -> Adaptation:
        self._enter("")
        seconds = {name: round(spent, 3) for name, spent in self.spent.items()}
        adaptation = Adaptation(
            **about, accepted=accepted, reason=reason, seconds=round(sum(seconds.values()), 3), seconds_by_phase=seconds
        )
        write_adaptation(self.job.out, adaptation)
        return adaptation

    def _about(self, base: Base) -> dict[str, Any]:
        return {
            "parent": base.model_id,
            "parent_checkpoint": base.checkpoint.about.model_id,
            "person": self.job.person,
            "seed": self.job.seed,
            "device": self.device.type,
            "recipe_name": self.found.name,
            "recipe": self.recipe.model_dump(mode="json"),
            "versions": _versions(),
        }

    def _say_started(self, base: Base, snapshot: Snapshot, parts: Split, steps: int) -> None:
        self._tell(
            {
                "event": "started",
                "recipe": self.found.name,
                "device": self.device.type,
                "frames": len(snapshot),
                "held_out": len(parts.choose) + len(parts.judge),
                "epochs": self.recipe.run.epochs,
                "steps": steps,
                "parent": base.model_id,
                "person": self.job.person,
                "seed": self.job.seed,
                "budget_s": self.recipe.run.budget_s,
            }
        )

    def _enter(self, phase: str) -> None:
        """Note how long the phase that ends here took, and say which begins."""
        now = self._clock()
        if now > self._since:
            self.spent[self._phase] = self.spent.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now
        if phase and phase != "training":
            self._tell(self._event("progress", phase=phase))

    def _progress(self, at: Progress) -> None:
        where = {"epoch": at.epoch, "step": at.step, "steps": at.steps, "loss": at.loss, "left_s": at.left_s}
        self._tell(self._event("progress", phase="training") | where)

    def _event(self, event: str, phase: str) -> dict[str, Any]:
        return {
            "event": event,
            "phase": phase,
            "epoch": 0,
            "epochs": self.recipe.run.epochs,
            "step": 0,
            "steps": 0,
            "loss": None,
            "seconds": round(self._clock() - self.started, 3),
            "left_s": None,
        }


def write_adaptation(out: Path, adaptation: Adaptation) -> None:
    """Write adaptation.json. Raises AdaptationError: the disk refuses."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ADAPTATION).write_text(json.dumps(_plain(adaptation), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise AdaptationError(f"cannot write {out / ADAPTATION}: {error.strerror or error}") from None


def _faces_of(person: str | None, count: int) -> str:
    """What a person's model was trained on beside its parent's data, for people."""
    return f"{count} faces of {person or 'one person'}, theirs to give"


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _plain(adaptation: Adaptation) -> dict[str, Any]:
    return adaptation.model_dump(mode="json", by_alias=True)


def _device(asked: str) -> torch.device:
    if asked == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no CUDA device here; use --device cpu, or see psm-doctor")
    return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")


def _versions() -> dict[str, str]:
    found = {"psm-stream": psm_stream.__version__}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
