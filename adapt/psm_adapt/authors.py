"""The format of the published checkpoints of FaceCycle and PSM: `ExpCode_19.tar` and the like, read and written.

A file is a `torch.save`d dict of state dicts: `codegeneration`, `exptoflow` and `Swap_Generator` of the expression
stage, in FaceCycle's full file also `idcodegen` and `Swap_Norm` of the identity stage. Files that data-parallel
training wrote have `module.` before each key. docs/checkpoints.md says more.

Source: Chang, Chen, Chiu, ICCV 2021, and Tazi, Berger, Freiwald (PSM): layout alone, from their public repositories.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from psm_adapt.networks.design import Design, empty_networks
from psm_export.sources.torch_file import read_torch_file
from psm_stream.errors import CheckpointError

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

NETWORKS = {
    "codegeneration": "encoder",
    "exptoflow": "flow_decoder",
    "Swap_Generator": "generator",
    "idcodegen": "identity_encoder",
    "Swap_Norm": "normaliser",
}
"""The authors' name of each network, in their order, and ours."""
EXPRESSION = tuple(NETWORKS)[:3]
"""The ones that every file has."""
OURS = "psm_stream"
"""A further entry in the files that we write: `checkpoint.json` as text. The authors' programs do not look at it."""
PREFIX = "module."

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, slots=True)
class AuthorsCheckpoint:
    """What a file held, checked. Tensors are plain float32 copies on the CPU, finite, without `module.`."""

    states: dict[str, State]
    """State dicts by our names of the networks, three or five."""
    notes: tuple[str, ...] = ()
    """What was changed or left out on the way, for people."""
    about: str | None = None
    """Text of the `checkpoint.json` that the file was written from, if one of us wrote it; not checked."""

    @property
    def has_identity(self) -> bool:
        """Whether the identity stage's two networks are there."""
        return len(self.states) == len(NETWORKS)


@cache
def layout() -> Mapping[str, Shapes]:
    """Shape of each tensor by the authors' key, in their order, by our name of the network."""
    parts = empty_networks(Design(identity=True)).parts()
    return {
        name: {key: tuple(tensor.shape) for key, tensor in parts[name].state_dict().items()}
        for name in NETWORKS.values()
    }


def read_authors(path: Path) -> AuthorsCheckpoint:
    """Read a published file, or one that `write_authors` wrote.

    Raises CheckpointError: it cannot be read without executing code, is damaged or something else, or a network, key,
    shape or number in it is not as published.
    """
    saved = read_torch_file(path)
    if not isinstance(saved, dict):
        raise CheckpointError(f"{path} holds a {type(saved).__name__}, expected a dict of state dicts")
    _check_networks(path, saved)
    notes: list[str] = []
    states = {
        ours: _state(f"{path}: {theirs}", saved[theirs], layout()[ours], notes)
        for theirs, ours in NETWORKS.items()
        if theirs in saved
    }
    extra = [repr(key)[:40] for key in saved if key not in NETWORKS and key != OURS]
    if extra:
        notes.append(f"ignored: {', '.join(extra)}"[:200])
    about = saved.get(OURS)
    return AuthorsCheckpoint(states, tuple(dict.fromkeys(notes)), about if isinstance(about, str) else None)


def write_authors(path: Path, states: Mapping[str, Mapping[str, Tensor]], prefix: str = "", about: str = "") -> None:
    """Write state dicts in the authors' format: a zip that PyTorch 1.6 and later reads.

    Args:
        path: A file that is not there yet.
        states: Float32 tensors by the authors' keys, by our names of the networks; three networks or all five.
        prefix: Put before each key: "" or "module.".
        about: Text of the `checkpoint.json`; "" for none.

    Raises CheckpointError: there is such a file, the disk refuses, or a tensor is not as published.
    """
    saved: dict[str, object] = {}
    for theirs, ours in NETWORKS.items():
        if ours in states:
            state = _state(f"{path}: {theirs}", states[ours], layout()[ours], [])
            saved[theirs] = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    _check_networks(path, saved)
    if about:
        saved[OURS] = about
    fresh = path.with_name(f".{path.name}.new")
    if path.exists():
        raise CheckpointError(f"{path} exists; it is never written over, choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            torch.save(saved, file)
        os.replace(fresh, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            fresh.unlink()
        raise CheckpointError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None


def _check_networks(path: Path, saved: Mapping[Any, object]) -> None:
    """Check that the networks of the expression stage are there, and both of the identity stage or neither."""
    found = [name for name in NETWORKS if name in saved]
    missing = [name for name in EXPRESSION if name not in saved]
    if missing:
        held = ", ".join(repr(key)[:40] for key in list(saved)[:5]) or "nothing"
        raise CheckpointError(f"{path} holds no {missing[0]}, which the authors' files have; it holds {held}")
    if len(found) not in (len(EXPRESSION), len(NETWORKS)):
        alone = found[-1]
        raise CheckpointError(f"{path} holds {alone} without its partner; idcodegen and Swap_Norm come together")


def _state(where: str, given: object, shapes: Shapes, notes: list[str]) -> State:
    """Check one state dict against the published shapes and copy it, in the published order.

    notes: gets what was changed. Raises CheckpointError: it is something else.
    """
    if not isinstance(given, Mapping):
        raise CheckpointError(f"{where} is a {type(given).__name__}, expected a state dict")
    state = _without_prefix(where, given, notes)
    missing = [key for key in shapes if key not in state]
    if missing:
        raise CheckpointError(f"{where}: {len(missing)} of {len(shapes)} tensors are missing, first {missing[0]!r}")
    unknown = [str(key) for key in state if key not in shapes]
    if unknown:
        raise CheckpointError(f"{where}: unknown tensor {unknown[0][:80]!r} ({len(unknown)} in all)")
    return {key: _tensor(f"{where}: {key}", state[key], shape, notes) for key, shape in shapes.items()}


def _without_prefix(where: str, given: Mapping[object, object], notes: list[str]) -> dict[object, object]:
    prefixed = [isinstance(key, str) and key.startswith(PREFIX) for key in given]
    if not any(prefixed):
        return dict(given)
    if not all(prefixed):
        raise CheckpointError(f"{where}: some keys begin with {PREFIX!r} and some do not; the file was put together")
    notes.append(f"{PREFIX!r} taken off the keys")
    return {str(key)[len(PREFIX) :]: value for key, value in given.items()}


def _tensor(where: str, given: object, shape: tuple[int, ...], notes: list[str]) -> Tensor:
    is_plain = type(given) in (Tensor, Parameter)
    if not isinstance(given, Tensor) or not is_plain or given.layout != torch.strided or given.device.type != "cpu":
        raise CheckpointError(f"{where} is a {type(given).__name__} of another kind, expected a dense tensor")
    if given.dtype not in _FLOATS:
        raise CheckpointError(f"{where} is {_name(given.dtype)}, expected float32")
    if tuple(given.shape) != shape:
        raise CheckpointError(f"{where} has shape {list(given.shape)}, expected {list(shape)}")
    if given.dtype != torch.float32:
        notes.append(f"{_name(given.dtype)} converted to float32")
    tensor = torch.empty(shape, dtype=torch.float32).copy_(given.detach())
    if not torch.isfinite(tensor).all():
        raise CheckpointError(f"{where} has numbers that are not finite")
    return tensor


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
