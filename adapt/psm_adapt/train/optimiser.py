"""The optimiser: Adam over groups of parameters that share a factor on the learning rate, and clipping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from psm_adapt.config import OptimiserSettings
from psm_adapt.train.task import Group
from psm_stream.errors import TrainingError


def build_optimiser(groups: Sequence[Group], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Make Adam over all parameters that are not frozen; with weight decay it is AdamW, without, the same as Adam.

    Raises TrainingError: every parameter is frozen.

    Source: Kingma, Ba 2015; betas .5 and .999 as FaceCycle's and PSM's authors; decay as in Loshchilov, Hutter 2019.
    """
    trained = [(group, [p for p in group.parameters if p.requires_grad]) for group in groups]
    if not any(parameters for _, parameters in trained):
        raise TrainingError("every parameter is frozen, there is nothing to train")
    return torch.optim.AdamW(
        [{"params": parameters, "factor": group.lr_factor} for group, parameters in trained if parameters],
        settings.lr,
        (settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def freeze_rest(module: nn.Module, groups: Sequence[Group]) -> None:
    """Freeze what is in no group: no gradients are computed for it, and no process waits for any."""
    trained = {id(parameter) for group in groups for parameter in group.parameters}
    for parameter in module.parameters():
        if id(parameter) not in trained:
            parameter.requires_grad_(False)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step; each group multiplies it by its own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def clip(optimiser: torch.optim.Optimizer, limit: float | None) -> Tensor:
    """Return the L2 norm of all gradients together; where there is a limit, scale them down to it."""
    parameters = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters])
    if limit is not None:
        clip_grads_with_norm_(parameters, limit, norm)
    return norm
