"""Fine-tuning: the small loop in which a general model, or another person's, becomes this person's.

The objective, the pairs and the augmentation are those of `train.cycle`; what differs from `train.loop` is that nothing
is written, that time is limited, and that the epoch is kept that does best on faces held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from psm_adapt.adaptation.recipes import Recipe
from psm_adapt.shares import Shares
from psm_adapt.train.cycle import CycleBatch, CycleTask
from psm_adapt.train.optimiser import build_optimiser, set_rate
from psm_adapt.train.readings import At, Readings, check_finite, in_one
from psm_adapt.train.schedules import learning_rate
from psm_adapt.train.seeds import mixed_seed
from psm_adapt.train.task import TOTAL, Group
from psm_adapt.train.world import pick_precision

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far fine-tuning is. step counts over all epochs. left_s: estimate, None before the first step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    seconds: float
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Tuned:
    """What fine-tuning gave. The task's networks hold the weights of the best epoch.

    epoch: the best one, 0 if none did better than the start. epochs: how many were finished. validation: loss on the
    faces held out, after 0, 1, 2 ... epochs. losses: mean training loss of each epoch. why: why it ended.
    """

    epoch: int
    epochs: int
    steps: int
    validation: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: float
    why: str


def tune(
    task: CycleTask,
    recipe: Recipe,
    seed: int,
    *,
    validate: Callable[[], float],
    clock: Clock,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Tuned:
    """Fine-tune a task's networks, and leave the weights of the best epoch in them.

    Args:
        task: Networks, faces and objective, on the device.
        recipe: Epochs, batch, rates, time.
        seed: Of everything that is random.
        validate: Computes the loss on faces held out, by which the best epoch is chosen.
        clock: Seconds; the budget is measured with it.
        tell: Told after each step.

    Raises TrainingError: a loss or a gradient is not finite.
    """
    return _Tuning(task, recipe, seed, validate=validate, clock=clock, tell=tell).run()


class _Tuning:
    def __init__(
        self,
        task: CycleTask,
        recipe: Recipe,
        seed: int,
        *,
        validate: Callable[[], float],
        clock: Clock,
        tell: Callable[[Progress], None],
    ) -> None:
        self.task, self.recipe, self.seed = task, recipe, seed
        self.validate, self.clock, self.tell = validate, clock, tell
        networks = task.networks
        self.device = next(networks.parameters()).device
        self.bf16 = pick_precision(recipe.run.precision, self.device)[0]
        encoder = list(networks.encoder.parameters())
        others = [*networks.flow_decoder.parameters(), *networks.generator.parameters()]
        groups = [Group("encoder", encoder, recipe.run.encoder_lr), Group("decoders", others)]
        self.optimiser = build_optimiser(groups, recipe.optimiser)
        self.trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        is_shared = self.device.type == "cpu" and recipe.run.threads > 1
        self.shares = Shares(recipe.run.threads) if is_shared else None
        self.steps = sum(task.steps(epoch) for epoch in range(1, recipe.run.epochs + 1))
        self.step = 0
        self.started = clock()

    def run(self) -> Tuned:
        validation = [self._validation()]
        losses: list[float] = []
        best, weights = 0, self._weights()
        why = "all epochs done"
        for epoch in range(1, self.recipe.run.epochs + 1):
            if len(losses) == self.recipe.run.stop_after:
                why = f"stopped after {len(losses)} epochs"
                break
            loss = self._epoch(epoch)
            if loss is None:
                why = f"the time of {self.recipe.run.budget_s:g} s is up"
                break
            losses.append(loss)
            validation.append(self._validation())
            if validation[-1] < validation[best]:
                best, weights = epoch, self._weights()
        self.task.networks.load_state_dict(weights)
        seconds = self.clock() - self.started
        return Tuned(best, len(losses), self.step, tuple(validation), tuple(losses), seconds, why)

    def _validation(self) -> float:
        """Compute the loss on the faces held out as training computes its own: a tenth of the time goes here."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.validate()

    def _epoch(self, epoch: int) -> float | None:
        """Learn from every pair once. Returns the mean loss; None if time was up before the end."""
        readings, total = Readings(), 0.0
        self.task.networks.train()
        for number, batch in enumerate(self.task.batches(epoch, 0)):
            rate = learning_rate(self.recipe.optimiser, epoch, self.step, self.steps)
            terms = self._step(batch, rate, mixed_seed(self.seed, epoch, number))
            names, vector = in_one(terms, asked_to_stop=False)
            for reading in readings.push(At(epoch, self.step, rate), names, vector):
                check_finite(reading, self.task.module)
                total += reading.terms[TOTAL]
            self.step += 1
            self._tell(epoch, total / (number + 1))
            if self.clock() - self.started > self.recipe.run.budget_s:
                return None
        for reading in readings.rest():
            check_finite(reading, self.task.module)
            total += reading.terms[TOTAL]
        return total / self.task.steps(epoch)

    def _step(self, batch: CycleBatch, rate: float, seed: int) -> dict[str, Tensor]:
        set_rate(self.optimiser, rate)
        torch.manual_seed(seed)
        self.optimiser.zero_grad(set_to_none=True)
        shares = self.shares
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if shares is None:
                terms = self.task.loss(batch)
            else:
                terms = shares.mean(lambda number: self.task.loss(batch.share(number, shares.count)), self.trained)
        torch.autograd.backward(terms[TOTAL])
        self.optimiser.step()
        return terms

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.task.networks.state_dict().items()}

    def _tell(self, epoch: int, loss: float) -> None:
        seconds = self.clock() - self.started
        left = seconds / self.step * (self.steps - self.step)
        left = min(left, max(0.0, self.recipe.run.budget_s - seconds))
        self.tell(Progress(epoch, self.recipe.run.epochs, self.step, self.steps, loss, seconds, left))
