"""The published linear probe: BatchNorm1d, then a linear layer without bias, trained by binary cross-entropy.

What the papers leave out is chosen here: full batches, Adam at 0.01 for 300 steps, no weight decay, and a threshold of
0.5. With full batches BatchNorm's statistics are the same in every step, those of the training frames; so features are
normalised once, and no test frame has any part in it.

Source: PSM (Tazi, Berger, Freiwald); Temporal Consistency (Lu, Tavabi, Soleymani, BMVC 2020) for the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from psm_adapt.evaluate.probe import Features, Half
from psm_adapt.evaluate.scores import Labels
from psm_adapt.shares import one_thread

EPSILON = 1e-5
"""BatchNorm's own, added to the variance."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the probe is trained. seed: of the linear layer's first weights."""

    steps: int = 300
    learning_rate: float = 0.01
    seed: int = 0


def said_by_linear(train: Half, test: Half, recipe: Recipe | None = None) -> Labels:
    """Train the probe and return what it says of the test frames, bool [M, A].

    train, test: features [N, D] and labels bool [N, A]; the test's labels are not looked at.
    """
    with one_thread():  # steps of a millisecond gain nothing from more
        features, truth = _tensor(train[0]), _tensor(train[1])
        variance, mean = torch.var_mean(features, 0, correction=0)
        scale = (variance + EPSILON).rsqrt()
        weights = _trained((features - mean) * scale, truth, recipe or Recipe())
        said: Labels = (_logits(weights, (_tensor(test[0]) - mean) * scale) > 0).numpy()
    return said


def balanced_weights(truth: Tensor) -> Tensor:
    """Weight of each frame and action unit, inverse to the frequency of its class: N / (2 n of this class).

    truth: [N, A] of 0 and 1. Returns [N, A], with a mean of 1 for each action unit that has both classes; a class that
    has all the frames weighs 1/2.
    """
    count = len(truth)
    positive = truth.sum(0)
    of_one = count / (2 * positive.clamp(min=1))
    of_none = count / (2 * (count - positive).clamp(min=1))
    return torch.where(truth > 0.5, of_one, of_none)


@dataclass(frozen=True, slots=True)
class _Weights:
    """BatchNorm's scale and shift [D], and the linear layer's weight [A, D]."""

    scale: Tensor
    shift: Tensor
    linear: Tensor


def _trained(normalised: Tensor, truth: Tensor, recipe: Recipe) -> _Weights:
    dimension, units = normalised.shape[1], truth.shape[1]
    bound = 1 / math.sqrt(dimension)  # PyTorch's for a linear layer
    first = torch.rand((units, dimension), generator=torch.Generator().manual_seed(recipe.seed))
    weights = _Weights(torch.ones(dimension), torch.zeros(dimension), (2 * first - 1) * bound)
    learned = [weights.scale, weights.shift, weights.linear]
    for weight in learned:
        weight.requires_grad_()
    adam = torch.optim.Adam(learned, recipe.learning_rate)
    balance = balanced_weights(truth)
    for _ in range(recipe.steps):
        adam.zero_grad()
        loss = F.binary_cross_entropy_with_logits(_logits(weights, normalised), truth, balance)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    return _Weights(*(weight.detach() for weight in learned))


def _logits(weights: _Weights, normalised: Tensor) -> Tensor:
    """The linear layer of scaled and shifted features; both in one product, which a step is mostly made of."""
    return F.linear(normalised, weights.linear * weights.scale, weights.linear @ weights.shift)


def _tensor(values: Features | Labels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
