"""Checkpoints: a folder with one safetensors file per network and the `checkpoint.json` that says what they are.

    checkpoint.json             About: design, step, recipe, licence, the sha256 of every file
    encoder.safetensors         one file per network, with the authors' key names inside, float32 or float16
    flow_decoder.safetensors
    generator.safetensors
    resume/                     only in a checkpoint that training goes on from (psm_adapt.train.resume)

`save_checkpoint` writes, `open_checkpoint` reads and checks. Nothing in such a folder can execute code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_of_tensors
from torch import Tensor, nn

from psm_adapt.networks.design import Design, Networks, empty_networks
from psm_stream.errors import CheckpointError

SCHEMA = 1
ABOUT = "checkpoint.json"
REQUIRED = ("encoder", "flow_decoder", "generator")
"""Parts of Networks that every checkpoint has, each in a file of its name; the identity stage has two more."""

Precision = Literal["fp32", "fp16"]
ModelId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[a-z_]{1,32}\.safetensors$")]
"""A plain name, so that no checkpoint.json can point out of its folder."""

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class About(BaseModel):
    """What a checkpoint says of itself, schema 1. `save_checkpoint` fills in model_id, precision and files."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, populate_by_name=True
    )

    schema_version: Literal[1] = Field(default=1, alias="schema")
    design: Design
    """Which networks these are."""
    stem: str
    """Where the generator's frozen stem comes from, for people to read: VGG19 and its file, or learned."""
    perceptual: str
    """Which network the perceptual loss was taken from."""
    licence: str = Field(min_length=1)
    created_by: str = Field(min_length=1)
    note: str = ""
    """One line for people."""
    epoch: int = Field(default=0, ge=0)
    """Epochs trained, counted from the start that `parent` names."""
    step: int = Field(default=0, ge=0)
    """Optimiser steps trained."""
    person: str | None = None
    """Whom it was trained on; None is several people or nobody."""
    parent: ModelId | None = None
    """model_id of the checkpoint that training started from."""
    training: dict[str, JsonValue] = Field(default_factory=dict)
    """What training did, free in form: settings, losses, data."""
    model_id: ModelId = "0" * 12
    """First 12 hex digits of the sha256 over all weights; `model_id_of` says how."""
    precision: Precision = "fp32"
    files: dict[FileName, Sha256] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint: every file was there and had its digest when `open_checkpoint` looked."""

    folder: Path
    about: About

    @property
    def design(self) -> Design:
        """Which networks these are."""
        return self.about.design

    def tensors(self, network: str) -> dict[str, Tensor]:
        """Read one network's weights as float32. network: encoder, flow_decoder, ...

        Raises CheckpointError: it is not in this checkpoint, was changed since it was opened, or is not finite.
        """
        name = f"{network}.safetensors"
        if name not in self.about.files:
            raise CheckpointError(f"checkpoint {self.folder} holds no {network}; it has {', '.join(self.about.files)}")
        return _tensors(self.folder / name, _checked(self.folder, name, self.about.files[name]))

    def networks(self) -> Networks:
        """Build the networks and fill in the weights.

        Raises CheckpointError: a weight is missing, left over, of another shape or not finite.
        """
        networks = empty_networks(self.design)
        for name, network in networks.parts().items():
            fill(network, self.tensors(name), f"checkpoint {self.folder}, {name}")
        return networks


def save_checkpoint(folder: Path, networks: Networks, about: About, precision: Precision = "fp32") -> About:
    """Write a checkpoint and return what it says of itself. It appears whole or not at all.

    Raises CheckpointError: there is something already, a weight is not finite or does not fit float16, the disk
    refuses.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} exists; a checkpoint is never written over another, choose a new folder")
    about, contents = contents_of(networks, about, precision)
    write_folder(folder, contents)
    return about


def contents_of(networks: Networks, about: About, precision: Precision = "fp32") -> tuple[About, dict[str, bytes]]:
    """Return what a checkpoint says of itself, and its files by name.

    Raises CheckpointError: a weight is not finite or does not fit float16.
    """
    states = {name: _state(network) for name, network in networks.parts().items()}
    contents = {f"{name}.safetensors": _bytes(name, state, precision) for name, state in states.items()}
    about = about.model_copy(
        update={
            "model_id": model_id_of(contents),
            "precision": precision,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        }
    )
    text = about.model_dump_json(by_alias=True, indent=1) + "\n"
    return about, contents | {ABOUT: text.encode()}


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint and check its JSON and the digest of every file that it names.

    Raises CheckpointError: no such folder, no checkpoint.json or one that is not valid or of a newer schema, a file
    missing, renamed, cut off or changed.
    """
    about = _read_about(folder)
    missing = [name for name in REQUIRED if f"{name}.safetensors" not in about.files]
    if missing:
        raise CheckpointError(f"checkpoint {folder}: {ABOUT} names no {missing[0]}.safetensors; copy it again")
    for name, digest in about.files.items():
        _checked(folder, name, digest)
    return Checkpoint(folder, about)


def model_id_of(contents: dict[str, bytes]) -> str:
    """Name a model by its numbers. contents: safetensors files by name.

    The first 12 hex digits of the sha256 over the raw little-endian float32 bytes of every weight, networks and keys
    in order of name. float16 weights are widened first, so that the id of a half-precision copy is its own.
    """
    digest = hashlib.sha256()
    for name in sorted(contents):
        tensors = tensors_from_bytes(contents[name])
        for key in sorted(tensors):
            digest.update(tensors[key].float().contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()[:12]


def fill(network: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy weights into a network, every one and no other. where: what they were read from, for the error.

    Raises CheckpointError: a weight is missing, left over or of another shape.
    """
    expected = network.state_dict()
    for key, wanted in expected.items():
        if key not in tensors:
            raise CheckpointError(f"{where}: weight {key} is missing; this is not such a network, or it was renamed")
        if tensors[key].shape != wanted.shape:
            raise CheckpointError(
                f"{where}: weight {key} has shape {list(tensors[key].shape)}, the network wants {list(wanted.shape)}"
            )
    left = sorted(tensors.keys() - expected.keys())
    if left:
        raise CheckpointError(f"{where}: unknown weight {left[0]} ({len(left)} in all); this is another network")
    network.load_state_dict(tensors)


def write_folder(folder: Path, contents: dict[str, bytes]) -> None:
    """Write files ("a/b" for sub-folders) into a folder that appears whole, in place of the one that was there.

    The old one is given up only once the new one is on the disk.

    Raises CheckpointError: the disk refuses.
    """
    fresh, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("new", "old"))
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        for name, content in contents.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {folder}: {error.strerror or error}") from None


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().float().contiguous() for key, value in network.state_dict().items()}


def _bytes(name: str, state: dict[str, Tensor], precision: Precision) -> bytes:
    stored = {key: value.to(_DTYPES[precision]) for key, value in state.items()}
    for key, value in stored.items():
        if not torch.isfinite(value).all():
            why = "is not finite" if not torch.isfinite(state[key]).all() else "does not fit float16"
            raise CheckpointError(f"weight {key} of the {name} {why}; no checkpoint is written")
    return bytes_of_tensors(stored)


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        tensors = {key: value.float() for key, value in tensors_from_bytes(content).items()}
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({' '.join(str(error).split())})") from None
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: weight {key} is not finite; training went wrong there, use an earlier one")
    return tensors


def _checked(folder: Path, name: str, digest: str) -> bytes:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"checkpoint {folder}: {name} is missing; copy the whole folder again")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {folder}: cannot read {name}: {error.strerror or error}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise CheckpointError(
            f"checkpoint {folder}: {name} has sha256 {found[:12]}..., {ABOUT} names {digest[:12]}...; "
            "the file was changed or cut off, copy the whole folder again"
        )
    return content


def _read_about(folder: Path) -> About:
    path = folder / ABOUT
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no checkpoint folder; psm-adapt import makes one of an authors' .tar file")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CheckpointError(f"checkpoint {folder}: cannot read {ABOUT}: {reason}") from None
    try:
        return About.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        if where == "schema":
            raise CheckpointError(
                f"checkpoint {folder} has schema {first['input']!r}, this version reads {SCHEMA}; update psm-stream"
            ) from None
        raise CheckpointError(f"checkpoint {folder}: {ABOUT} is wrong at {where}: {first['msg']}") from None
