"""Going on: all that a training needs beside its networks' weights, kept in `last/resume` and read back exactly.

    resume/state.json             where training was, and the digest of the other file
    resume/training.safetensors   Adam's moments, and weights that are trained but are no part of the networks

Data and noise need no state: they are drawn from generators seeded by (seed, epoch, step). So training that was cut
off and went on has the same weights, bit for bit, as training that was not (on the CPU; CUDA adds in any order).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_of_tensors
from torch import Tensor, nn

from psm_adapt.checkpoint import About, contents_of, fill, open_checkpoint, write_folder
from psm_adapt.networks.design import Networks
from psm_stream.errors import CheckpointError

STATE = "resume/state.json"
TENSORS = "resume/training.safetensors"
_WEIGHT = "weight "
"""Before the name of a weight that is no part of the networks; Adam's entries are `<entry> <parameter>`."""


class Position(BaseModel):
    """Where training is, and the losses of the unfinished epoch."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    epoch: int = 1
    """The one under way, or the next."""
    steps_in_epoch: int = Field(default=0, ge=0)
    """Steps of it that are done."""
    step: int = Field(default=0, ge=0)
    """Steps done in all."""
    sums: dict[str, float] = {}
    """Each loss, summed over the steps of this epoch."""
    seconds: float = 0.0
    """Spent training in all."""
    epoch_seconds: float = 0.0
    """Spent on this epoch."""


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    position: Position
    digest: str


@dataclass(frozen=True, slots=True)
class Trained:
    """What changes while training."""

    networks: Networks
    module: nn.Module
    """The networks, and whatever else is trained with them."""
    optimiser: torch.optim.Optimizer


def save_last(folder: Path, trained: Trained, position: Position, about: About) -> None:
    """Write the checkpoint that training goes on from; the one before is given up once this is on the disk.

    Raises CheckpointError: a weight is not finite, or the disk refuses.
    """
    _, contents = contents_of(trained.networks, about)
    content = bytes_of_tensors(_moments(trained) | _other_weights(trained))
    state = _State(position=position, digest=hashlib.sha256(content).hexdigest())
    write_folder(folder, contents | {STATE: state.model_dump_json(indent=1).encode(), TENSORS: content})


def load_last(folder: Path, trained: Trained) -> Position:
    """Fill in what `save_last` wrote, and return where training goes on.

    Raises CheckpointError: it is missing or damaged, or is of another design or task.
    """
    checkpoint = open_checkpoint(folder)
    if checkpoint.design != trained.networks.design:
        raise CheckpointError(f"{folder} is of another design ({checkpoint.design}); go on with the same settings")
    for name, network in trained.networks.parts().items():
        fill(network, checkpoint.tensors(name), f"checkpoint {folder}, {name}")
    state = _read_state(folder)
    content = _read(folder / TENSORS)
    if hashlib.sha256(content).hexdigest() != state.digest:
        raise CheckpointError(f"{folder / TENSORS} was changed or cut off; go on from a folder that was not")
    try:
        tensors = tensors_from_bytes(content)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / TENSORS} is not a safetensors file ({error})") from None
    _fill_other_weights(trained, tensors, folder)
    _fill_moments(trained, tensors, folder)
    return state.position


def has_last(folder: Path) -> bool:
    """Say whether there is a checkpoint to go on from; one that was about to be replaced is put back first."""
    old = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and old.is_dir():
        with suppress(OSError):  # another process did
            old.rename(folder)  # the power went between the two renames of write_folder
    return (folder / STATE).is_file()


def _moments(trained: Trained) -> dict[str, Tensor]:
    """Adam's state: `<entry> <parameter>` -> tensor; entries are step, exp_avg and exp_avg_sq."""
    found = {}
    for name, parameter in trained.module.named_parameters():
        for entry, value in trained.optimiser.state.get(parameter, {}).items():
            found[f"{entry} {name}"] = value.detach().cpu().contiguous()
    return found


def _fill_moments(trained: Trained, tensors: dict[str, Tensor], folder: Path) -> None:
    trained_ones = {id(parameter) for group in trained.optimiser.param_groups for parameter in group["params"]}
    parameters = {name: p for name, p in trained.module.named_parameters() if id(p) in trained_ones}
    for key, value in tensors.items():
        entry, _, name = key.partition(" ")
        if key.startswith(_WEIGHT):
            continue
        if name not in parameters or (value.ndim and value.shape != parameters[name].shape):
            raise CheckpointError(f"{folder / TENSORS} holds {key}, which is not trained here; use the same settings")
        parameter = parameters[name]
        like = parameter if value.ndim else value.to(parameter.device if _is_fused(trained) else "cpu")
        trained.optimiser.state[parameter][entry] = torch.empty_like(like, requires_grad=False).copy_(value)


def _is_fused(trained: Trained) -> bool:
    """A fused Adam counts its steps on the device."""
    return any(group.get("fused") for group in trained.optimiser.param_groups)


def _other_weights(trained: Trained) -> dict[str, Tensor]:
    """Weights and buffers that are trained but are no part of the networks: heads that teach."""
    kept = {id(value) for value in trained.networks.state_dict(keep_vars=True).values()}
    state = trained.module.state_dict(keep_vars=True)
    return {
        _WEIGHT + name: value.detach().cpu().contiguous().clone()
        for name, value in state.items()
        if id(value) not in kept
    }


def _fill_other_weights(trained: Trained, tensors: dict[str, Tensor], folder: Path) -> None:
    expected = {key: value.shape for key, value in _other_weights(trained).items()}
    found = {key: value.shape for key, value in tensors.items() if key.startswith(_WEIGHT)}
    if expected != found:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise CheckpointError(
            f"{folder / TENSORS}: {wrong} is missing, unknown or of another shape; use the same settings"
        )
    own = trained.module.state_dict(keep_vars=True)
    with torch.no_grad():
        for key in expected:
            own[key.removeprefix(_WEIGHT)].copy_(tensors[key])


def _read_state(folder: Path) -> _State:
    try:
        return _State.model_validate_json(_read(folder / STATE))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CheckpointError(
            f"{folder / STATE} is wrong at {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot go on from {path.parent.parent}: {path}: {error.strerror or error}") from None
