"""The training loop: read `train` from top to bottom.

It knows nothing of faces; a Task (`task.py`) brings networks, batches and losses. Everything else is here or one call
away: the optimiser and its schedule, bfloat16, several processes, exact resuming, Ctrl-C, checkpoints, pictures, and
the checks that losses are finite and that nothing has collapsed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor, nn

from psm_adapt.checkpoint import About, save_checkpoint
from psm_adapt.config import OptimiserSettings, RunSettings
from psm_adapt.train import resume
from psm_adapt.train.collapse import Watch
from psm_adapt.train.folder import EpochLosses, RunFolder
from psm_adapt.train.interrupt import listening
from psm_adapt.train.optimiser import build_optimiser, clip, freeze_rest, set_rate
from psm_adapt.train.progress import Pace, Teller, duration_in_words, terms_in_words
from psm_adapt.train.readings import GRADIENT, At, Reading, Readings, check_finite, in_one
from psm_adapt.train.resume import Position, Trained
from psm_adapt.train.schedules import learning_rate
from psm_adapt.train.seeds import mixed_seed
from psm_adapt.train.task import TOTAL, Batch, Objective, Task
from psm_adapt.train.world import World, pick_precision
from psm_stream.errors import TrainingError

SAVE_S = 300.0
"""`last` is written at least so often, whatever `checkpoint_every` says, so that a power cut costs minutes."""


@dataclass(frozen=True, slots=True)
class Job:
    """How a task is to be trained."""

    optimiser: OptimiserSettings
    run: RunSettings
    settings: Mapping[str, Any]
    """All of them, as plain values, for the record."""
    folder: RunFolder
    world: World
    teller: Teller
    goes_on: bool = False
    """From the folder's `last`, instead of from the task's own weights."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How training ended."""

    epochs: int
    """Finished in all."""
    steps: int
    losses: dict[str, float]
    """Means of the last finished epoch; empty when there is none."""
    exit_code: int
    """0, or 130 or 143 when a signal ended it early; it can be gone on with."""


def train(task: Task[Batch], job: Job) -> Outcome:
    """Train a task until its last epoch or until a signal, and leave a checkpoint in the job's folder.

    Raises TrainingError: a loss or gradient is not finite, or the networks collapsed; the last checkpoint stays as it
    was. CheckpointError: there is nothing to go on from, or the disk refuses.
    """
    training = _Training(task, job)
    with training, listening(job.world.size) as interrupt:
        while training.position.epoch <= job.run.epochs:
            for batch in task.batches(training.position.epoch, training.position.steps_in_epoch):
                training.step(batch, asked_to_stop=interrupt.exit_code is not None)
                if training.is_stopping:
                    break
                training.save_if_due()
            training.catch_up()
            if training.is_stopping:
                training.save_last()
                return training.outcome(interrupt.exit_code or 130)
            training.finish_epoch()
        return training.outcome(0)


class _Training(Generic[Batch]):
    """One training under way."""

    def __init__(self, task: Task[Batch], job: Job) -> None:
        self.task, self.job = task, job
        self.is_stopping = False
        self.bf16, self.precision = pick_precision(job.run.precision, job.world.device)
        task.module.to(job.world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = task.groups()
        freeze_rest(task.module, groups)
        self.trained = Trained(task.networks, task.module, build_optimiser(groups, job.optimiser))
        self.position = resume.load_last(job.folder.last, self.trained) if job.goes_on else Position()
        self.objective = job.world.wrap(Objective(task))
        self.steps_of = {epoch: task.steps(epoch) for epoch in range(1, job.run.epochs + 1)}
        self.steps = sum(self.steps_of.values())
        self.readings, self.watch, self.pace = Readings(), Watch(), Pace()
        self.last_losses: dict[str, float] = {}
        self._saved_s = self._noted_s = time.monotonic()

    def __enter__(self) -> None:
        if self.job.world.is_first:
            self.job.folder.open(self.position.step)
        self.job.teller.say(f"{self.job.world.device.type}, {self.precision}; {self.job.folder.path}")

    def __exit__(self, *_: object) -> None:
        if self.job.world.is_first:
            self.job.folder.close()

    def step(self, batch: Batch, asked_to_stop: bool) -> None:
        """Make one optimiser step, and take in the losses that can be read by now."""
        position, world = self.position, self.job.world
        rate = learning_rate(self.job.optimiser, position.epoch, position.step, self.steps)
        set_rate(self.trained.optimiser, rate)
        torch.manual_seed(mixed_seed(self.job.run.seed, position.epoch, position.steps_in_epoch, world.rank))
        with torch.autocast(world.device.type, torch.bfloat16, enabled=self.bf16):
            terms: dict[str, Tensor] = self.objective(batch)
        self.trained.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(terms[TOTAL])
        terms[GRADIENT] = clip(self.trained.optimiser, self.job.optimiser.clip_norm)
        names, vector = in_one(terms, asked_to_stop)
        self._take(self.readings.push(At(position.epoch, position.step, rate), names, world.mean(vector)))
        self.trained.optimiser.step()
        position.step += 1
        position.steps_in_epoch += 1
        self._tell_step()

    def catch_up(self) -> None:
        """Take in the losses of all steps that were made."""
        self._take(self.readings.rest())

    def finish_epoch(self) -> None:
        """Look for collapse, note the losses, and write what is due; then the next epoch is the current one."""
        position, job = self.position, self.job
        if position.steps_in_epoch == 0:
            raise TrainingError(f"epoch {position.epoch} has no batch: too few pairs for run.batch_size; lower it")
        means = {name: value / position.steps_in_epoch for name, value in position.sums.items()}
        self.last_losses = {name: value for name, value in means.items() if name != GRADIENT}
        self._look_for_collapse()
        self._note_time()
        rate = learning_rate(job.optimiser, position.epoch, position.step - 1, self.steps)
        finished, is_last = position.epoch, position.epoch == job.run.epochs
        if job.world.is_first:
            job.folder.add_losses(EpochLosses(finished, position.step, rate, round(position.epoch_seconds, 3), means))
        job.teller.epoch(self._status(finished), is_last)
        self.position = Position(epoch=finished + 1, step=position.step, seconds=position.seconds)
        self._write(finished, is_last)

    def save_if_due(self) -> None:
        """Write the checkpoint to go on from, when that was not done for long."""
        if time.monotonic() - self._saved_s > SAVE_S:
            self.catch_up()
            self.save_last()

    def save_last(self) -> None:
        """Write the checkpoint to go on from."""
        self._note_time()
        if self.job.world.is_first:
            finished = self.position.epoch - 1
            resume.save_last(self.job.folder.last, self.trained, self.position, self._about(finished))
        self._saved_s = time.monotonic()

    def outcome(self, exit_code: int) -> Outcome:
        """Say how training ended."""
        return Outcome(self.position.epoch - 1, self.position.step, self.last_losses, exit_code)

    def _take(self, readings: list[Reading]) -> None:
        for reading in readings:
            try:
                check_finite(reading, self.task.module)
            except TrainingError as error:
                raise TrainingError(f"{error}; {self._good()}") from None
            for name, value in reading.terms.items():
                self.position.sums[name] = self.position.sums.get(name, 0.0) + value
            self.is_stopping |= reading.wants_to_stop

    def _write(self, finished: int, is_last: bool) -> None:
        run, folder = self.job.run, self.job.folder
        is_kept = is_last or finished % run.checkpoint_every == 0
        if is_kept and self.job.world.is_first and not folder.checkpoint(finished).exists():
            save_checkpoint(folder.checkpoint(finished), self.task.networks, self._about(finished))
        if is_kept:
            self.save_last()
        if self.job.world.is_first and (is_last or finished % run.preview_every == 0):
            with _looking(self.task.module):
                preview = self.task.preview()
            folder.draw(preview, finished)

    def _look_for_collapse(self) -> None:
        if self.job.run.collapse == "off":
            return
        with _looking(self.task.module):
            collapsed = self.watch.look(self.task.probe(), self.position.step)
        if collapsed is None:
            return
        line = (
            f"collapsed by epoch {self.position.epoch}: {collapsed}; try another optimiser.lr, design.init he, or more "
            "varied faces; run.collapse warn goes on"
        )
        if self.job.run.collapse == "error":
            raise TrainingError(f"{line}; {self._good()}")
        if self.job.world.is_first:
            self.job.teller.warn(line)

    def _good(self) -> str:
        last = self.job.folder.last
        return f"the last good checkpoint is {last}" if last.is_dir() else "nothing was saved yet"

    def _about(self, finished: int) -> About:
        about = self.task.about()
        training = {
            "settings": dict(self.job.settings),
            "losses": self.last_losses,
            "seconds": round(self.position.seconds, 1),
            "precision": "bf16" if self.bf16 else "fp32",
            "processes": self.job.world.size,
        }
        changed = {"epoch": finished, "step": self.position.step, "training": about.training | training}
        return about.model_copy(update=changed)

    def _note_time(self) -> None:
        now = time.monotonic()
        self.position.seconds += now - self._noted_s
        self.position.epoch_seconds += now - self._noted_s
        self._noted_s = now

    def _tell_step(self) -> None:
        self.pace.step()
        epoch, done = self.position.epoch, self.position.steps_in_epoch
        here = f"step {done}/{self.steps_of[epoch]}, "
        self.job.teller.step(here + self._status(epoch), self.position.step / self.steps)

    def _status(self, epoch: int) -> str:
        """Describe an epoch under way or done: losses so far, rate, and how long the rest will take."""
        done = max(1, self.position.steps_in_epoch)
        means = {name: total / done for name, total in self.position.sums.items() if name != GRADIENT}
        rate, left = self.pace.steps_per_s, self.steps - self.position.step
        images_per_s = f"{rate * self.task.images_per_step:.0f} images/s"
        rest = f", {duration_in_words(left / rate)} left" if rate and left else ""
        return f"epoch {epoch}/{self.job.run.epochs}: {terms_in_words(means)}; {images_per_s}{rest}"


@contextmanager
def _looking(module: nn.Module) -> Iterator[None]:
    """While networks are looked at: no gradients, evaluation mode."""
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train()
