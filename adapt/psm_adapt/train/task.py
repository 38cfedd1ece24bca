"""What the loop trains: the Task protocol and the values it hands over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from psm_adapt.checkpoint import About
from psm_adapt.networks.design import Networks

TOTAL = "total"
"""Name of the loss that is minimised."""

Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that share a learning rate."""

    name: str
    parameters: Sequence[nn.Parameter]
    lr_factor: float = 1.0
    """Multiplies the schedule's rate."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the networks make of a fixed batch, to be looked at for collapse; None is not looked at. N images."""

    codes: Tensor | None = None
    """[N, D]."""
    flow: Tensor | None = None
    """[N, 2, H, W], grid units."""
    output: Tensor | None = None
    """[N, 3, H, W], rebuilt images."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A grid of images: one column per name, one row per face."""

    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """Name and images [K, 3, H, W], 0..1 RGB; all with the same K, H, W."""


class Task(Protocol[Batch]):
    """Something to train. It owns its data and its objective; the loop owns everything else.

    Whatever is random in it is drawn from generators seeded by (seed, epoch, step), so that training can be resumed
    from any step without the state of a generator. With several processes every one has the same Task, and `batches`
    gives each its share of the same global batch.
    """

    @property
    def module(self) -> nn.Module:
        """All that is trained, and moved between devices; contains `networks`."""

    @property
    def networks(self) -> Networks:
        """What a checkpoint holds."""

    @property
    def images_per_step(self) -> int:
        """Over all processes together; for the rate that is shown."""

    def groups(self) -> Sequence[Group]:
        """Return the parameters to train: every step's loss depends on all of them that are not frozen.

        The loop freezes what is in no group.
        """

    def steps(self, epoch: int) -> int:
        """Return how many batches an epoch has. epoch: from 1."""

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """Give the batches of an epoch on the device of `module`, from the `first` one on (0-based)."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return named losses, scalars, always under the same names; `total` is minimised, the others are shown.

        Runs under autocast when that pays; what needs float32 must see to it.
        """

    def probe(self) -> Probe:
        """Run the networks on a fixed batch, without gradients."""

    def preview(self) -> Preview:
        """Return images that show what was learned, without gradients."""

    def about(self) -> About:
        """Say what a checkpoint of `networks` is; the loop adds epoch, step and the settings."""


class Objective(nn.Module):
    """A task's loss as a module, which is what several processes need to average its gradients."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.module = task.module
        self._loss = task.loss

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return the named losses of a batch."""
        return self._loss(batch)
