"""Losses as numbers: read without making a GPU wait, and checked to be finite."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from psm_adapt.train.task import TOTAL
from psm_stream.errors import TrainingError

GRADIENT = "gradient"
"""Name of the norm of all gradients together, beside the losses."""


class At(NamedTuple):
    """Where training is."""

    epoch: int
    """From 1."""
    step: int
    """0-based over the whole training."""
    rate: float
    """Learning rate."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The losses of one step, averaged over the processes."""

    at: At
    terms: dict[str, float]
    """Named losses, and the gradient's norm."""
    wants_to_stop: bool
    """Some process was asked to stop."""


class Readings:
    """Turns one vector per step into a Reading: at once on the CPU, one step later on CUDA.

    The copy from a GPU runs while the next step is being computed; reading it at once would leave the GPU idle.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[At, list[str], Tensor, torch.cuda.Event]] = deque()

    def push(self, at: At, names: list[str], vector: Tensor) -> list[Reading]:
        """Hand over a step's vector [one per name, stop]. Returns what can be read."""
        if vector.device.type != "cuda":
            return [_reading(at, names, vector)]
        copy = torch.empty_like(vector, device="cpu", pin_memory=True).copy_(vector, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        self._waiting.append((at, names, copy, copied))
        return [self._next()] if len(self._waiting) > 1 else []

    def rest(self) -> list[Reading]:
        """Return what is still under way, once it is there."""
        return [self._next() for _ in range(len(self._waiting))]

    def _next(self) -> Reading:
        at, names, copy, copied = self._waiting.popleft()
        copied.synchronize()
        return _reading(at, names, copy)


def in_one(terms: dict[str, Tensor], asked_to_stop: bool) -> tuple[list[str], Tensor]:
    """Put scalars and the wish to stop into one vector, for one copy and one average. Returns the names, too.

    The total comes last, because the error of a loss that is not finite should name the term and not the sum.
    """
    names = sorted(terms, key=lambda name: (name in (TOTAL, GRADIENT), name == GRADIENT, name))
    scalars = [terms[name].detach().float() for name in names]
    return names, torch.stack([*scalars, torch.full_like(scalars[0], float(asked_to_stop))])


def check_finite(reading: Reading, module: nn.Module) -> None:
    """Raise TrainingError when a loss or the gradient is not finite, naming it and what to try."""
    at = reading.at
    for name, value in reading.terms.items():
        if not math.isfinite(value):
            what = f"the gradient{_where(module)}" if name == GRADIENT else f"loss {name!r}"
            raise TrainingError(
                f"{what} is {value} at step {at.step + 1} (epoch {at.epoch}, learning rate {at.rate:g}); "
                "try a lower optimiser.lr, optimiser.clip_norm 1, or run.precision fp32"
            )


def _where(module: nn.Module) -> str:
    """Name the first parameter whose gradient is not finite, if it can still be seen."""
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f" of {name}"
    return ""


def _reading(at: At, names: list[str], vector: Tensor) -> Reading:
    *values, stop = vector.tolist()
    return Reading(at, dict(zip(names, values, strict=True)), stop > 0)
