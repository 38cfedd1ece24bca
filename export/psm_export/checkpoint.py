"""The encoder of a checkpoint folder, read without torch: `checkpoint.json` and `encoder.safetensors`.

docs/checkpoints.md describes the folder; `psm_adapt.checkpoint` writes it. Networks that only training needs are not
looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from psm_export import facecycle
from psm_stream.bundle import ModelId, Sha256
from psm_stream.errors import BundleError, CheckpointError

ABOUT = "checkpoint.json"
ENCODER = "encoder.safetensors"
SCHEMA = 1
TRAINING_DATA = "data"
"""Key of `training`: what the weights were trained on, with its licence, a line each."""


class About(BaseModel):
    """What `checkpoint.json`, schema 1, says that concerns an encoder; other keys are left to their readers."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    schema_version: Literal[1] = Field(alias="schema")
    model_id: ModelId
    licence: str = Field(min_length=1)
    note: str
    epoch: int = Field(ge=0)
    step: int = Field(ge=0)
    person: str | None
    parent: ModelId | None
    training: dict[str, JsonValue]
    files: dict[str, Annotated[str, Sha256]]

    @property
    def is_trained(self) -> bool:
        """Whether anything was learned: here, or before the checkpoint was imported."""
        return self.epoch > 0 or self.step > 0 or "imported" in self.training

    @property
    def training_data(self) -> tuple[str, ...]:
        """What the weights were trained on, with its licence, a line each; empty where nobody said."""
        return training_data_of(self.training)


def training_data_of(training: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Read what a checkpoint's `training` says of its data, a line each; empty where nobody said."""
    said = training.get(TRAINING_DATA, [])
    lines = said if isinstance(said, list) else []
    return tuple(line for line in lines if isinstance(line, str) and line.isprintable() and line)


@dataclass(frozen=True, slots=True)
class EncoderCheckpoint:
    """The encoder of a checkpoint. weights: by the authors' keys, float32, checked."""

    folder: Path
    about: About
    weights: dict[str, NDArray[np.float32]]


def read_checkpoint(folder: Path) -> EncoderCheckpoint:
    """Read what the encoder's bundle is made of.

    Raises CheckpointError: no checkpoint, one of a newer schema, or its encoder is missing, changed, not finite or not
    FaceCycle's.
    """
    if folder.is_file():
        raise CheckpointError(
            f"{folder} is a file; for the authors' format: psm-adapt import {folder} --out CHECKPOINT, "
            "then give that folder"
        )
    about = _about(folder)
    content = _read(folder, ENCODER)
    if ENCODER not in about.files or hashlib.sha256(content).hexdigest() != about.files[ENCODER]:
        raise CheckpointError(
            f"checkpoint {folder}: {ENCODER} is not the file that {ABOUT} names; it was changed or cut off, copy the "
            "whole folder again"
        )
    return EncoderCheckpoint(folder, about, _weights(folder, content))


def _about(folder: Path) -> About:
    if (folder / "manifest.json").is_file():
        raise CheckpointError(f"{folder} is an encoder bundle already; psm-stream --model {folder} runs it")
    content = _read(folder, ABOUT)
    try:
        return About.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        if where == "schema" and first["type"] != "missing":
            raise CheckpointError(
                f"checkpoint {folder} has schema {first['input']!r}, this version reads {SCHEMA}; update psm-stream"
            ) from None
        message = " ".join(first["msg"].split())
        raise CheckpointError(f"checkpoint {folder}: {ABOUT} is wrong at {where}: {message}") from None


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no checkpoint: there is no {name} in it") from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {folder}: cannot read {name}: {error.strerror or error}") from None


def _weights(folder: Path, content: bytes) -> dict[str, NDArray[np.float32]]:
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:  # the last three: a type that numpy lacks
        message = " ".join(str(error).split())
        raise CheckpointError(f"checkpoint {folder}: {ENCODER} cannot be read ({message}); copy it again") from None
    for key, tensor in tensors.items():
        if tensor.dtype not in (np.float16, np.float32):
            raise CheckpointError(f"checkpoint {folder}: {key} is {tensor.dtype}, expected float32 or float16")
    weights = {key: tensor.astype(np.float32) for key, tensor in tensors.items()}
    try:
        facecycle.check_weights(weights)
    except BundleError as error:
        raise CheckpointError(f"checkpoint {folder}: {error}") from None
    return weights
