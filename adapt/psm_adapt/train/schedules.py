"""Schedules: the learning rate and the neutral face's weight, as functions of where training is.

Epochs count from 1, optimiser steps from 0. Rates are absolute; a parameter group's factor multiplies them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from psm_adapt.config import OptimiserSettings


def learning_rate(settings: OptimiserSettings, epoch: int, step: int, steps: int) -> float:
    """Return the learning rate of one step. step: 0-based over the whole training. steps: how many there will be."""
    if settings.schedule == "psm":
        return psm(epoch, settings.lr, settings.min_lr)
    if settings.schedule == "facecycle":
        return facecycle(epoch)
    if settings.schedule == "cosine":
        return warmup_cosine(step, steps, settings)
    return settings.lr


def psm(epoch: int, initial: float = 8e-5, minimum: float = 5e-6) -> float:
    """PSM's steps: `initial` before epoch 10, 5e-5 before 50, 1e-5 before 200, then `minimum`.

    Source: the authors' `initial_lrate` and `min_lr_to_tolerate` (Tazi, Berger, Freiwald).
    """
    for below, rate in ((10, initial), (50, 5e-5), (200, 1e-5)):
        if epoch < below:
            return rate
    return minimum


def facecycle(epoch: int) -> float:
    """FaceCycle's steps: 1e-5 in the first epoch, 5e-5 in 2 to 20, 1e-5 in 21 to 40, then 5e-6.

    Source: Chang, Chen, Chiu 2021, whose own epochs count from 0.
    """
    for last, rate in ((1, 1e-5), (20, 5e-5), (40, 1e-5)):
        if epoch <= last:
            return rate
    return 5e-6


def warmup_cosine(step: int, steps: int, settings: OptimiserSettings) -> float:
    """Rise linearly to `lr` over `warmup_steps`, then fall along half a cosine to `min_lr` at the last step.

    Source: Loshchilov, Hutter 2017 (one cycle); the linear rise is Goyal et al. 2017.
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, steps - 1 - settings.warmup_steps)
    return settings.min_lr + (settings.lr - settings.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def neutral_weight(weights: Sequence[float] | None, epoch: int, epochs: int) -> float:
    """Return the weight of the neutral face's symmetry in an epoch.

    weights: None is 1; one number is constant; two are joined by a straight line from the first to the last epoch.
    Source: the authors' `neu_face_loss_weight`; the paper gives no numbers.
    """
    if weights is None:
        return 1.0
    first, last = weights[0], weights[-1]
    return first if epochs == 1 else first + (last - first) * (epoch - 1) / (epochs - 1)
