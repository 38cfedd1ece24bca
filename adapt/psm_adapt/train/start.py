"""What training starts from: new networks, or those of a checkpoint (transfer), and the perceptual network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from psm_adapt.authors import read_authors
from psm_adapt.checkpoint import REQUIRED, About, fill, open_checkpoint
from psm_adapt.config import TrainSettings
from psm_adapt.general.shipped import general_checkpoint
from psm_adapt.networks.design import Design, Networks, build_networks, build_perceptual, empty_networks
from psm_adapt.networks.vgg19_weights import Vgg19Weights, find_vgg19
from psm_stream.adaptation.layout import CHECKPOINT
from psm_stream.errors import ConfigError
from psm_stream.people import PREFIX, base_named

GENERAL = "general"
"""What `start_from` calls the general model that ships."""


@dataclass(frozen=True, slots=True)
class Start:
    """Networks to train, and where they are from."""

    networks: Networks
    perceptual: nn.Module | None
    perceived: str
    """For people: which network the perceptual loss looks through."""
    stem: str
    """For people: which weights the generator's stem has."""
    parent: str | None = None
    """model_id of the checkpoint; None for new networks and the authors' files."""


def start_of(settings: TrainSettings) -> Start:
    """Build the networks of a training, new or from `start_from`: all of each network, none of it frozen by that.

    The published stem is VGG19's and stays frozen, in new networks and in transfer alike.

    Raises ConfigError: VGG19's weights are needed and not there, `start_from` is of another design, or it is not set
    for transfer, or the identity stage is asked for. CheckpointError: `start_from` is missing or damaged.
    """
    _check_choices(settings)
    design = settings.design
    if settings.start_from is None:
        vgg19 = find_vgg19(settings.vgg19) if design.needs_vgg19 else None
        networks = build_networks(design, settings.run.seed, vgg19)
        stem = _in_words(vgg19) if design.stem == "vgg19" else "learned, from random weights"
        return Start(networks, *perceptual_of(settings), stem)
    networks = empty_networks(design)
    states, stem, parent = _read(settings.start_from, design)
    for name in REQUIRED:
        fill(networks.parts()[name], states[name], f"start_from {settings.start_from}, {name}")
    return Start(networks, *perceptual_of(settings), stem, parent)


def check_start(settings: TrainSettings) -> None:
    """Check what can be known before there is any data, VGG19's file included. Raises ConfigError: as `start_of`."""
    _check_choices(settings)
    if settings.start_from is None and settings.design.needs_vgg19:
        find_vgg19(settings.vgg19)


def _check_choices(settings: TrainSettings) -> None:
    """Check what the settings alone say. Raises ConfigError: as `start_of`."""
    if settings.approach.endswith("transfer") and settings.start_from is None:
        wanted = "a checkpoint folder, an authors' .tar file, person:NAME, or general"
        raise ConfigError(f"{settings.approach} needs start_from: {wanted}")
    if settings.design.identity:
        raise ConfigError("design.identity true: the identity stage is not trained here; set it to false")


def start_again(settings: TrainSettings, about: About) -> Start:
    """Build what a training goes on with; its networks are filled from the checkpoint that `about` is of.

    Raises ConfigError: the perceptual loss needs VGG19's weights and they are not there.
    """
    return Start(empty_networks(settings.design), *perceptual_of(settings), about.stem, about.parent)


def _read(path: Path, design: Design) -> tuple[dict[str, dict[str, Tensor]], str, str | None]:
    """Return the weights by network, what their stem is, and the model_id if there is one."""
    if path == Path(GENERAL) and not path.exists():
        path = general_checkpoint()
    if path.is_file():
        _check(path, Design(), design)
        return read_authors(path).states, f"VGG19, as every published file carries it: from {path.name}", None
    if path.as_posix().startswith(PREFIX):
        path = Path(base_named(path.as_posix())) / CHECKPOINT
    checkpoint = open_checkpoint(path)
    _check(path, checkpoint.design, design)
    states = {name: checkpoint.tensors(name) for name in REQUIRED}
    return states, checkpoint.about.stem, checkpoint.about.model_id


def _check(path: Path, found: Design, wanted: Design) -> None:
    for key in ("generator", "stem"):
        theirs, ours = getattr(found, key), getattr(wanted, key)
        if theirs != ours:
            flags = f"--design.generator {found.generator} --design.stem {found.stem}"
            perceptual = "" if found.perceptual == "vgg19" else f" --design.perceptual {found.perceptual}"
            raise ConfigError(
                f"start_from {path} has {key} {theirs}, the settings say {ours}; give {flags}{perceptual}"
            )


def perceptual_of(settings: TrainSettings) -> tuple[nn.Module | None, str]:
    """Return the network that the perceptual loss looks through, and what it is in words.

    Raises ConfigError: it is VGG19, and its weights are not there.
    """
    design = settings.design
    if design.perceptual == "vgg19":
        vgg19 = find_vgg19(settings.vgg19)
        return build_perceptual(design, vgg19), _in_words(vgg19)
    is_random = design.perceptual == "random"
    return build_perceptual(design), f"random filters, seed {design.perceptual_seed}" if is_random else "none"


def _in_words(vgg19: Vgg19Weights | None) -> str:
    return f"VGG19 of {vgg19.path.name}, sha256 {vgg19.digest[:12]}" if vgg19 is not None else "none"
