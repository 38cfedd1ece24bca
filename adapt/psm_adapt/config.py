"""Training settings: one frozen tree, filled from defaults, a YAML file and dotted flags, in that order.

`load(file, overrides)` is the only way in. The files under configs/train are such trees; the authors' own YAML files
are read as well (`authors_options`). `psm_stream.sections` says how values are read. docs/training.md lists every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from psm_adapt import authors_options
from psm_adapt.networks.design import Design
from psm_stream import sections
from psm_stream.sections import Section

ALL = "All"
"""The authors' word for everybody in `people`."""


Weight = Annotated[float, Field(ge=0)]


class DataSettings(Section):
    """What is trained on."""

    source: Path | None = None
    """Crop store, or what a store is made from: a folder of videos or frames, one file or sub-folder per person."""
    layout: Literal["auto", "folder", "disfa", "voxceleb", "session"] = "auto"
    """How a source that is no store is laid out; psm-adapt crops --help says what each is."""
    as_is: bool = False
    """Images in the source are face crops already, and are taken as they are."""
    people: list[str] = Field(default=[ALL], min_length=1)
    """Names of people in the store, All is everybody. The psm approaches train one model for each, one by one."""

    @field_validator("people", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return _listed(value)


class PairSettings(Section):
    """Which two frames of a person make a pair."""

    redraw: bool | None = None
    """True draws new pairs every epoch, False keeps the first ones; none is as published (psm keeps, gm draws)."""
    per_track: int = Field(default=450, ge=1)
    """Pairs a track and epoch in the gm approaches: the authors' list names each person 450 times."""
    flips: float | None = Field(default=None, ge=0, le=1)
    """Share of pairs whose second image is the first one mirrored; none is as published (psm 0, gm 0.5)."""
    within: Literal["person", "recording", "segment"] = "person"
    """What a track is: pairs are never made across two of them."""
    seed: int = Field(default=912, ge=0)
    """Of the pairing alone."""


class LossSettings(Section):
    """Weights of the training objective; the defaults are the published ones."""

    neutral_weight: list[Weight] | None = Field(default=None, min_length=1, max_length=2)
    """Weight of the neutral face's symmetry: none is 1, [w] is constant, [a, b] goes from a to b over the epochs."""
    pixel: float = Field(default=1.0, ge=0)
    perceptual: float = Field(default=0.01, ge=0)
    symmetry: float = Field(default=1.5, ge=0)
    ssim: float = Field(default=5.0, ge=0)
    noise: bool = True
    """The generator's Gaussian noise while training."""

    @field_validator("neutral_weight", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return _listed(value)


class OptimiserSettings(Section):
    """Adam and its learning rate."""

    schedule: Literal["psm", "facecycle", "constant", "cosine"] = "psm"
    lr: float = Field(default=8e-5, gt=0)
    """First rate of `psm`, highest of `cosine`; `facecycle` has its own."""
    min_lr: float = Field(default=5e-6, ge=0)
    """Last rate of `psm` and `cosine`."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which `cosine` rises from 0."""
    beta1: float = Field(default=0.5, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled from the gradient, as in AdamW."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of all gradients together; none does not clip, as published."""


class RunSettings(Section):
    """How the loop runs, and what it writes."""

    epochs: int = Field(default=17, ge=1)
    """The authors' YAML files say 17, the paper 500 (10 for transfer)."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs in a step, over all processes together; twice as many images."""
    seed: int = Field(default=2, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bfloat16 on CUDA and on CPUs with instructions for it."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Epochs between checkpoints that are kept; `last` is written then, too, and at the end."""
    preview_every: int = Field(default=10, ge=1)
    """Epochs between previews and pictures of the loss."""
    collapse: Literal["error", "warn", "off"] = "error"
    """What happens when the codes, the flow or the images no longer depend on the input."""
    tensorboard: bool = True


class TrainSettings(Section):
    """Everything that shapes the training of one of the published approaches."""

    approach: Literal["psm", "psm_transfer", "psm_ctl", "gm", "gm_transfer", "gm_ctl"] = "psm"
    """psm: a model of one person; gm: of everybody; ctl: the gap between paired frames grows; transfer: start_from."""
    start_from: Path | None = None
    """Checkpoint folder or authors' .tar whose networks training starts from, or `general`, the model that ships; none
    starts anew."""
    vgg19: Path | None = None
    """torchvision's file of VGG19's weights, for designs with vgg19 in them; none looks into torchvision's cache."""
    out: Path = Path("runs")
    """Folder of the run; where something is already, a sub-folder of it named by the time."""
    licence: str = Field(default="unknown", min_length=1)
    """Of the weights that come out, written into each checkpoint."""
    data: DataSettings = DataSettings()
    pairs: PairSettings = PairSettings()
    design: Design = Design()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    run: RunSettings = RunSettings()

    @property
    def pairing(self) -> str:
        """The approach's way to pair, a key of `data.pairs.PAIRINGS`; with transfer it is the same."""
        return self.approach.removesuffix("_transfer")


def load(file: Path | None, overrides: Mapping[str, Any]) -> TrainSettings:
    """Build the settings. overrides: {"run.epochs": "500", ...}; text is read as the kind that the setting has.

    Raises ConfigError: the file is missing or not YAML, or a key or value is wrong; it names the nearest right key.
    """
    return sections.build(TrainSettings, _tree(file) if file is not None else {}, overrides)


def set_in(file: Path) -> dict[str, Any]:
    """Return what a file sets, by dotted key. Raises ConfigError: as `load`, but for wrong keys and values."""
    found: dict[str, Any] = {}
    for name, value in _tree(file).items():
        found |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _tree(file: Path) -> dict[str, Any]:
    tree = sections.read_yaml(file, "approach")
    return authors_options.translate(tree) if authors_options.are_in(tree) else tree


def dotted_keys() -> list[str]:
    """Every dotted key that can be set, in order."""
    return sections.keys_of(TrainSettings)


def _listed(value: Any) -> Any:
    """A flag gives a list as text between commas, with or without brackets; none is none."""
    if not isinstance(value, str) or value == "none":
        return value
    return [part.strip() for part in value.strip("[] ").split(",")]
