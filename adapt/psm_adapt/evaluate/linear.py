"""The published linear probe: BatchNorm1d, then a linear layer without bias, trained by binary cross-entropy.

What the papers leave out is chosen here: full batches, Adam at 0.01 for 300 steps, no weight decay, and a threshold of
0.5. With full batches BatchNorm's statistics are those of the training frames exactly, and no test frame has any part
in them.

Source: PSM (Tazi, Berger, Freiwald); Temporal Consistency (Lu, Tavabi, Soleymani, BMVC 2020) for the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psm_adapt.evaluate.probe import Half
from psm_adapt.evaluate.scores import Labels


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
    recipe = recipe or Recipe()
    features, truth = _tensor(train[0]), _tensor(train[1])
    probe = _new(features.shape[1], truth.shape[1], recipe.seed)
    weights = balanced_weights(truth)
    adam = torch.optim.Adam(probe.parameters(), recipe.learning_rate)
    for _ in range(recipe.steps):
        adam.zero_grad()
        loss = F.binary_cross_entropy_with_logits(probe(features), truth, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    probe.eval()
    with torch.inference_mode():
        said: Labels = (probe(_tensor(test[0])) > 0).numpy()
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


def _new(dimension: int, units: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # momentum None: running statistics are the mean over all steps, each of which sees the same full batch
        return nn.Sequential(nn.BatchNorm1d(dimension, momentum=None), nn.Linear(dimension, units, bias=False))


def _tensor(values: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
