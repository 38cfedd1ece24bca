"""A task so small that an epoch takes milliseconds: 8x8 images rebuilt through a code, and a head beside the networks.

Run as a script it trains as one of the processes that torchrun starts: `toy.py FOLDER`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from psm_adapt.checkpoint import About
from psm_adapt.config import OptimiserSettings, RunSettings
from psm_adapt.networks.design import Design, Networks
from psm_adapt.train.folder import RunFolder
from psm_adapt.train.loop import Job, Outcome, train
from psm_adapt.train.progress import Teller
from psm_adapt.train.seeds import mixed_seed
from psm_adapt.train.task import Group, Preview, Probe
from psm_adapt.train.world import World, join

DESIGN = Design(generator="light", stem="learned", perceptual="none")
ALONE = World(0, 1, torch.device("cpu"))
STEPS = 4


class ToyNetworks(Networks):
    """Three linear networks with the names of the real ones."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.design = DESIGN
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh())
        self.flow_decoder = nn.Sequential(nn.Linear(16, 8), nn.Unflatten(1, (2, 2, 2)), nn.Tanh())
        self.generator = nn.Sequential(nn.Linear(16, 192), nn.Unflatten(1, (3, 8, 8)))


class Everything(nn.Module):
    """The networks, and a head with dropout that is trained but does not ship."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = ToyNetworks()
        self.head = nn.Sequential(nn.Linear(16, 3), nn.BatchNorm1d(3), nn.Dropout(0.1))


@dataclass
class ToyTask:
    """Rebuild images, and tell their mean colours, from a code."""

    world: World = ALONE
    batch_size: int = 8
    one_batch: bool = False
    """Every batch is the same one."""
    spoil: dict[int, str] = field(default_factory=dict)
    """Step and which loss is made NaN in it, or `gradient`."""
    images_per_step: int = 8
    dtype: torch.dtype = torch.float32
    has_head: bool = True
    """Dropout and batch statistics depend on how a batch is shared out."""
    interrupt_at: int | None = None
    """Batches after which the process sends itself Ctrl-C."""
    given: int = 0

    def __post_init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = Everything()
        self.networks = self.module.networks
        if not self.has_head:
            self.module.head = nn.Sequential(self.module.head[0])
        self.module.to(self.dtype)

    def groups(self) -> list[Group]:
        return [
            Group("networks", list(self.networks.parameters())),
            Group("head", list(self.module.head.parameters()), 2.0),
        ]

    def steps(self, epoch: int) -> int:
        return STEPS if epoch else 0

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Tensor, str]]:
        for step in range(first, STEPS):
            if self.given == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)
            self.given += 1
            generator = torch.Generator().manual_seed(0 if self.one_batch else mixed_seed(7, epoch, step))
            images = torch.rand(self.batch_size, 3, 8, 8, generator=generator, dtype=self.dtype)
            share = self.world.share(self.batch_size)
            yield images[self.world.rank * share :][:share], self.spoil.get((epoch - 1) * STEPS + step, "")

    def loss(self, batch: tuple[Tensor, str]) -> dict[str, Tensor]:
        images, spoilt = batch
        codes = self.networks.encoder(images)
        pixel = (self.networks.generator(codes) - images).square().mean()
        flow = self.networks.flow_decoder(codes).abs().mean()
        colour = (self.module.head(codes) - images.mean((2, 3))).square().mean()
        if spoilt == "gradient":
            colour = colour + (codes[0, 0] * 0).sqrt()  # 0, and its gradient is not a number
        terms = {"pixel": pixel, "flow": flow, "colour": colour}
        if spoilt in terms:
            terms[spoilt] = terms[spoilt] * float("nan")
        return terms | {"total": terms["pixel"] + 0.1 * terms["flow"] + terms["colour"]}

    def probe(self) -> Probe:
        images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=self.dtype)
        codes = self.networks.encoder(images)
        return Probe(codes, self.networks.flow_decoder(codes), self.networks.generator(codes))

    def preview(self) -> Preview:
        images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=self.dtype)
        return Preview({"input": images, "rebuilt": self.networks.generator(self.networks.encoder(images))})

    def about(self) -> About:
        return About(design=DESIGN, stem="none", perceptual="none", licence="MIT", created_by="a test")


def job(folder: Path, world: World = ALONE, goes_on: bool = False, **run: object) -> Job:
    """A job in float32 with a rate at which the toy learns."""
    chosen = RunSettings.model_validate({"epochs": 2, "precision": "fp32", "tensorboard": False, **run})
    optimiser = OptimiserSettings(schedule="constant", lr=1e-2)
    return Job(optimiser, chosen, {"a": 1}, RunFolder(folder, chosen.tensorboard), world, Teller(True), goes_on)


def weights(task: ToyTask) -> dict[str, Tensor]:
    """All that was trained."""
    return {name: value.clone() for name, value in task.module.state_dict().items()}


def train_in(world: World, folder: Path) -> Outcome:
    """Train in float64, without anything that depends on how a batch is shared out."""
    folder.mkdir(exist_ok=True)
    return train(ToyTask(world, dtype=torch.float64, has_head=False), job(folder, world))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All that was trained, as a finished run left it."""
    kept: dict[str, Tensor] = {}
    for file in sorted((folder / "last").rglob("*.safetensors")):
        kept |= {f"{file.stem} {key}": value for key, value in load_file(file).items() if "exp_avg" not in key}
    return {key: value for key, value in kept.items() if "step " not in key}


if __name__ == "__main__":
    with join("cpu") as this:
        train_in(this, Path(sys.argv[1]))
