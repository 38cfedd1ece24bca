"""Whether a run adapts, and why not: decided once at its start, and always said."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psm_stream.adaptation.workspace import unwritable
from psm_stream.align.crops import crops_of
from psm_stream.align.template import EYES_LEVEL
from psm_stream.bundle import EncoderBundle
from psm_stream.cli.common import nearest
from psm_stream.config import Settings
from psm_stream.errors import ConfigError
from psm_stream.gpu import has_nvidia_driver
from psm_stream.people import base_of

WORKER = (sys.executable, "-m", "psm_adapt", "worker")
EXTRA = ("torch", "safetensors", "onnx")
"""What training and export need, and the live path does not."""
LEARNED_PX = (64, 128)
"""Sides of the crops that training takes."""
RECIPES = ("auto", "cpu", "gpu", "paper", "paper_ctl")
"""Names of recipes; anything else is a file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided. why: one line for people. command: the worker, without its arguments."""

    mode: Literal["auto", "manual", "off"]
    why: str
    command: tuple[str, ...] = WORKER


def make_plan(settings: Settings, bundle: EncoderBundle, keeps_pace: bool) -> Plan:
    """Decide. bundle: the encoder that the run starts with. keeps_pace: the source plays at its own speed.

    Raises ConfigError: adaptation was asked for, and cannot be; or there is no such recipe.
    """
    asked = settings.adapt
    if asked == "off":
        return Plan("off", "as asked")
    _check_recipe(settings.adaptation.recipe)
    problem = _problem(settings, bundle)
    if asked is None:
        if not problem and not keeps_pace:
            problem = "the source is read as fast as it goes; --adapt auto adapts even so"
        return Plan("off", problem) if problem else Plan("auto", "training can run here")
    if problem:
        raise ConfigError(f"--adapt {asked}: {problem}, or use --adapt off")
    return Plan(asked, "as asked")


def missing() -> list[str]:
    """Return the packages that training needs and that are not installed, without importing any."""
    return [name for name in EXTRA if importlib.util.find_spec(name) is None]


def _check_recipe(recipe: str) -> None:
    if recipe not in RECIPES and not Path(recipe).is_file():
        near = nearest(recipe, RECIPES)
        raise ConfigError(f"adaptation.recipe {recipe}: no such file{near or '; give an existing one, or a name'}")


def _problem(settings: Settings, bundle: EncoderBundle) -> str:
    if missing():
        return f"{', '.join(missing())} is not installed; pip install 'psm-stream[adapt]'"
    if base_of(bundle) is None:
        return f"the weights of {bundle.folder} are not there to train on from; use a model with a checkpoint folder"
    crops = crops_of(bundle.manifest, settings.aligner.size_px)
    if not crops.template.is_same(EYES_LEVEL):
        return f"what is learned from are crops by {EYES_LEVEL.name}, and this encoder wants {crops.template}"
    if crops.size_px not in LEARNED_PX:
        return (
            f"what is learned from are crops of 128 px, and this run's are {crops.size_px} px; set aligner.size_px 128"
        )
    if settings.adaptation.device == "cuda" and not has_nvidia_driver():
        return "adaptation.device cuda: no NVIDIA driver on this machine; use --adaptation.device cpu"
    return unwritable(settings.person)
