"""The general model from videos to checkpoint, stage by stage; a stage whose result is there is not done again.

real/       crop store of the people to train on, with blendshapes
held_out/   crop store of the people to measure on
made/       crop store of synthetic people, drawn from `real`
encoder/    training run, first stage: the encoder learns what the teacher says
decoders/   training run, second stage: flow decoder and generator learn to take that off a face and put it on
checkpoint/ encoder, flow decoder and generator in half precision
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psm_adapt.checkpoint import About, open_checkpoint, save_checkpoint
from psm_adapt.data.ingest import IngestOptions, ingest
from psm_adapt.data.store import STORE, open_store
from psm_adapt.general.make import Order, make_clips
from psm_adapt.general.people import People, sources_of
from psm_adapt.general.run import train_general
from psm_adapt.general.settings import GeneralSettings
from psm_adapt.train.folder import LAST

CLIPS = 900
SEED = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the model is made from. videos: the folder that the people's files are in."""

    videos: Path
    people: People
    landmarker: Path
    encoder: GeneralSettings
    decoders: GeneralSettings
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
    first = recipe.encoder.model_copy(update={**stores, "out": out / "encoder"})
    if code := _trained(first, told):
        return code
    start = out / "encoder" / LAST
    second = recipe.decoders.model_copy(update={**stores, "out": out / "decoders", "start_from": start})
    if code := _trained(second, told):
        return code
    if not (out / "checkpoint").exists():
        _finish(out)
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


def _finish(out: Path) -> None:
    """Keep the networks in half precision, with what both stages did."""
    encoder, decoders = open_checkpoint(out / "encoder" / LAST).about, open_checkpoint(out / "decoders" / LAST)
    real, made = open_store(out / "real"), open_store(out / "made")
    training = {
        "people": len(real.people),
        "frames": len(real),
        "synthetic_frames": len(made),
        "encoder": _stage(encoder),
        "decoders": _stage(decoders.about),
    }
    about = decoders.about.model_copy(
        update={
            "training": training,
            "epoch": encoder.epoch + decoders.about.epoch,
            "step": encoder.step + decoders.about.step,
            "note": "general model; docs/general-model.md is its card",
            "parent": None,
        }
    )
    save_checkpoint(out / "checkpoint", decoders.networks(), about, "fp16")


def _stage(about: About) -> dict[str, object]:
    kept = ("losses", "seconds", "precision", "stores")
    return {"steps": about.step} | {key: about.training[key] for key in kept if key in about.training}
