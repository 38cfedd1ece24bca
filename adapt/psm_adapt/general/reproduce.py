"""The general model from videos to checkpoint, stage by stage; a stage whose result is there is not done again.

real/       crop store of the people to train on, with blendshapes
held_out/   crop store of the people to measure on
made/       crop store of synthetic people, drawn from `real`
encoder/    training run, first stage: the encoder learns what the teacher says
decoders/   training run, second stage: flow decoder and generator learn to take that off a face and put it on
checkpoint/ encoder, flow decoder and generator in half precision
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from psm_adapt.checkpoint import About, open_checkpoint, save_checkpoint
from psm_adapt.data.ingest import IngestOptions, ingest
from psm_adapt.data.store import STORE, open_store
from psm_adapt.general.make import Order, make_clips
from psm_adapt.general.people import People, sources_of
from psm_adapt.general.run import train_general
from psm_adapt.general.settings import GeneralSettings
from psm_adapt.train.folder import LAST
from psm_export.checkpoint import TRAINING_DATA

CLIPS = 900
SEED = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the model is made from.

    videos: the folder that the people's files are in. stages: training runs by name, the first starting anew and each
    other from the one before it.
    """

    videos: Path
    people: People
    landmarker: Path
    stages: Mapping[str, GeneralSettings]
    clips: int = CLIPS
    workers: int = 1


def reproduce(recipe: Recipe, out: Path, told: Callable[[str], None]) -> int:
    """Make the model in `out`. told: called with a line per stage. Returns 0, or a signal's exit code; call it again.

    Raises StoreError, AlignError, CheckpointError, TrainingError: as the stages do.
    """
    for name, videos in (("real", recipe.people.train), ("held_out", recipe.people.held_out)):
        if videos and not (out / name / STORE).exists():
            told(f"aligning the videos of {len(videos)} people into {out / name}")
            options = IngestOptions(landmarker=recipe.landmarker, workers=recipe.workers)
            ingest(sources_of(dict(videos), recipe.videos), out / name, options)
    if not (out / "made" / STORE).exists():
        told(f"drawing {recipe.clips} clips of synthetic people into {out / 'made'}")
        order = Order(recipe.clips, SEED, recipe.landmarker, recipe.workers)
        make_clips(out / "real", out / "made", order, lambda done: told(f"{done} of {recipe.clips} clips"))
    stores = {"real": out / "real", "made": out / "made"}
    start: dict[str, Path] = {}
    for name, settings in recipe.stages.items():
        if code := _trained(settings.model_copy(update={**stores, **start, "out": out / name}), told):
            return code
        start = {"start_from": out / name / LAST}
    if not (out / "checkpoint").exists():
        _finish(out, list(recipe.stages), recipe.people.sources)
    told(f"{out / 'checkpoint'}: psm-export {out / 'checkpoint'} --precision int8 --out BUNDLE makes a bundle of it")
    return 0


def _trained(settings: GeneralSettings, told: Callable[[str], None]) -> int:
    """Train, or go on, unless that is done. Returns the exit code."""
    last = settings.out / LAST
    is_begun = (last / "checkpoint.json").exists()
    if is_begun and open_checkpoint(last).about.epoch >= settings.run.epochs:
        return 0
    told(f"{'going on with' if is_begun else 'training into'} {settings.out}")
    return train_general(settings, goes_on=is_begun).exit_code


def _finish(out: Path, stages: Sequence[str], sources: Sequence[str]) -> None:
    """Keep the networks in half precision, with what the stages did."""
    opened = [open_checkpoint(out / name / LAST) for name in stages]
    real, made, last = open_store(out / "real"), open_store(out / "made"), opened[-1]
    training: dict[str, JsonValue] = {
        TRAINING_DATA: list(sources),
        "people": len(real.people),
        "frames": len(real),
        "synthetic_frames": len(made),
        "stages": {name: _stage(one.about) for name, one in zip(stages, opened, strict=True)},
    }
    about = last.about.model_copy(
        update={
            "training": training,
            "epoch": sum(one.about.epoch for one in opened),
            "step": sum(one.about.step for one in opened),
            "note": "general model; docs/general-model.md is its card",
            "parent": None,
        }
    )
    save_checkpoint(out / "checkpoint", last.networks(), about, "fp16")


def _stage(about: About) -> dict[str, JsonValue]:
    kept = ("losses", "seconds", "precision", "stores")
    return {"steps": about.step} | {key: about.training[key] for key in kept if key in about.training}
