"""Settings of the general model's training: one frozen tree, as psm_adapt.config is for the published approaches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from psm_adapt.config import OptimiserSettings, RunSettings
from psm_adapt.networks.design import Design
from psm_stream import sections
from psm_stream.sections import Section


class ObjectiveSettings(Section):
    """What is learned, by weight; 0 leaves it out."""

    teacher: float = Field(default=1.0, ge=0)
    """Hold the teacher's values in the code (`lesson`)."""
    leftover: float = Field(default=0.5, ge=0)
    """Hold nothing else in it; relative to `teacher`."""
    cycle: float = Field(default=0.0, ge=0)
    """FaceCycle's whole objective, on pairs of frames of one recording."""
    ranking: float = Field(default=0.0, ge=0)
    """Order in time: a farther frame lies farther in the code (`ranking`)."""
    encoder_lr: float = Field(default=1.0, ge=0)
    """Factor on the encoder's learning rate; 0 freezes it."""


class LessonSettings(Section):
    """How much of the code each kind of the teacher's values gets."""

    absolute: float = Field(default=0.3, ge=0)
    change: float = Field(default=1.0, ge=0)
    shape: float = Field(default=0.7, ge=0)
    pose: float = Field(default=0.35, ge=0)
    seed: int = Field(default=7, ge=0)
    """Of the rotation that mixes them into the code."""


class DrawSettings(Section):
    """Which faces a step sees."""

    made: float = Field(default=0.5, ge=0, le=1)
    """Share of synthetic faces; without a store of them it is 0."""
    is_varied: bool = True
    """Strong augmentation (`variety`); false is FaceCycle's."""
    steps_per_epoch: int = Field(default=250, ge=1)


class GeneralSettings(Section):
    """Everything that shapes the training of the general model."""

    approach: str = Field(default="general", pattern="^general$")
    start_from: Path | None = None
    """Checkpoint folder to start from; none starts anew."""
    real: Path | None = None
    """Crop store of real people, with blendshapes."""
    made: Path | None = None
    """Crop store of synthetic people (`psm_adapt.general.make`)."""
    out: Path = Path("runs")
    licence: str = Field(default="not stated", min_length=1)
    """Of what is learned, for the checkpoint; it follows from the licences of the videos."""
    design: Design = Design(generator="light", stem="learned", perceptual="random", init="he")
    objective: ObjectiveSettings = ObjectiveSettings()
    lesson: LessonSettings = LessonSettings()
    draw: DrawSettings = DrawSettings()
    optimiser: OptimiserSettings = OptimiserSettings(schedule="cosine", lr=5e-4, warmup_steps=100, beta1=0.9)
    run: RunSettings = RunSettings(batch_size=24, epochs=20)


def load(file: Path | None, overrides: Mapping[str, Any]) -> GeneralSettings:
    """Build the settings of a YAML file and dotted flags.

    Raises ConfigError: the file is missing or not YAML, or a key or value is wrong; it names the nearest right key.
    """
    tree = sections.read_yaml(file, "approach") if file is not None else {}
    return sections.build(GeneralSettings, tree, overrides)
