"""Recipes: how a person-specific model is made of a snapshot; the YAML files in configs/adapt/ are such trees.

`find(name)` is the only way in. `auto` takes `gpu` where there is CUDA, else `cpu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from psm_adapt.adaptation.gate import GateSettings
from psm_adapt.adaptation.screening import ScreenSettings
from psm_adapt.config import LossSettings, OptimiserSettings, PairSettings, RunSettings, TrainSettings
from psm_adapt.networks.design import Design
from psm_stream import sections
from psm_stream.errors import ConfigError
from psm_stream.sections import Section

AUTO = "auto"


class TuneSettings(Section):
    """How long is learned, and with what."""

    epochs: int = Field(default=10, ge=1)
    """The paper's transfer takes 10."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs in a step."""
    faces: int = Field(default=600, ge=20)
    """At most so many of the newest faces are used."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = Field(default=1, ge=1, le=64)
    """CPU threads; each computes a share of every step. Another number gives slightly other weights."""
    budget_s: float = Field(default=600.0, gt=0)
    """Training ends after so long; the best epoch so far is kept."""
    stop_after: int | None = Field(default=None, ge=0)
    """Training ends after so many epochs as if time were up then; rates still go by `epochs`. For reruns."""
    encoder_lr: float = Field(default=1.0, ge=0)
    """Factor on the encoder's learning rate."""


class ExportSettings(Section):
    """The bundle that the live path runs."""

    precision: Literal["fp32", "int8"] = "int8"


class Recipe(Section):
    """Everything that shapes an adaptation, but for its snapshot, its start, its seed and its device."""

    approach: Literal["psm", "psm_ctl"] = "psm"
    """How frames are paired: at random, as published, or with a gap that grows (CTL)."""
    pairs: PairSettings = PairSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    run: TuneSettings = TuneSettings()
    screen: ScreenSettings = ScreenSettings()
    gate: GateSettings = GateSettings()
    export: ExportSettings = ExportSettings()

    def training(self, design: Design, seed: int, licence: str) -> TrainSettings:
        """Return the settings of the training that this recipe asks for, from a parent of this design."""
        return TrainSettings(
            approach=self.approach,
            licence=licence,
            pairs=self.pairs,
            design=design,
            loss=self.loss,
            optimiser=self.optimiser,
            run=RunSettings(epochs=self.run.epochs, batch_size=self.run.batch_size, seed=seed),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A recipe and what it is called."""

    name: str
    recipe: Recipe


def find(name: str, device: str, overrides: Mapping[str, str] | None = None) -> Found:
    """Read a recipe.

    Args:
        name: auto, the name of a file in configs/adapt/, or the path of a YAML file.
        device: What `auto` chooses by: cpu or cuda.
        overrides: Dotted keys and their values, which win over the file's.

    Raises ConfigError: there is no such recipe, or a key or value in it is wrong.
    """
    chosen = {"cuda": "gpu"}.get(device, "cpu") if name == AUTO else name
    known = {file.stem: file for file in sorted(folder().glob("*.yaml"))}
    path = known.get(chosen, Path(chosen))
    if chosen not in known and not path.is_file():
        raise ConfigError(f"recipe {chosen!r}: there is auto, {', '.join(known)}, or the path of a YAML file")
    tree = sections.read_yaml(path, "run")
    return Found(path.stem, sections.build(Recipe, tree, overrides or {}))


def dotted_keys() -> list[str]:
    """Every dotted key that a recipe can set, in order."""
    return sections.keys_of(Recipe)


def folder() -> Path:
    """Where the recipes are: in the installed package, or in the clone that it is installed from in place."""
    packaged = Path(__file__).with_name("recipe_files")
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "configs" / "adapt"
