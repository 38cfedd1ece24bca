"""Collapse: networks whose codes, flow or images no longer depend on what they are shown.

Looked for on a fixed batch after each epoch. One look may be an accident; `PATIENCE` looks in a row, with `LASTING`
steps between the first and the last of them, are a collapse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from psm_adapt.train.task import Probe

PATIENCE = 5
"""Looks in a row that must find the same."""
LASTING = 100
"""Optimiser steps for which they must find it: an epoch on one person may be a single step."""
LEAST_SPREAD = 1e-5
"""Of codes (in -1..1) and images (deviations of the normalised space) over the batch: below lies rounding of bf16."""
LEAST_RANK = 1.5
"""Effective rank of the codes; 1 is a single direction."""
RANKED = 8
"""Images without which a rank says little."""
LEAST_FLOW = 1e-5
"""Largest shift in the batch, grid units (2 is the whole image); 1e-5 moves a 64 px image by a third of 1/1000 px."""


@dataclass(slots=True)
class Watch:
    """Counts how often in a row each sign of collapse was seen."""

    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Sign -> step of the first look that found it, and how many did since."""

    def look(self, probe: Probe, step: int) -> str | None:
        """Look at a fixed batch's results. Returns what has collapsed, in words, once that is certain."""
        signs = signs_of_collapse(probe)
        before = {sign: self.seen.get(sign, (step, 0)) for sign in signs}
        self.seen = {sign: (first, looks + 1) for sign, (first, looks) in before.items()}
        lasting = [s for s, (first, looks) in self.seen.items() if looks >= PATIENCE and step - first >= LASTING]
        return signs[lasting[0]] if lasting else None


def signs_of_collapse(probe: Probe) -> dict[str, str]:
    """Return each sign that this batch shows, and what it is in words."""
    found = {}
    if probe.codes is not None:
        measured, rank = spread(probe.codes), effective_rank(probe.codes)
        if measured < LEAST_SPREAD:
            found["codes"] = f"the codes are the same for every face (spread {measured:.1e})"
        elif rank < LEAST_RANK and len(probe.codes) >= RANKED:
            found["rank"] = f"the codes vary along one direction only (effective rank {rank:.2f})"
    if probe.flow is not None and float(probe.flow.abs().max()) < LEAST_FLOW:
        found["flow"] = f"the flow moves nothing (at most {float(probe.flow.abs().max()):.1e} grid units)"
    if probe.output is not None and (measured := spread(probe.output)) < LEAST_SPREAD:
        found["output"] = f"the rebuilt images are the same for every face (spread {measured:.1e})"
    return found


def spread(values: Tensor) -> float:
    """Root mean square, over all dimensions, of the deviation over images. values: [N, ...]."""
    return float(values.float().var(dim=0, unbiased=False).mean().sqrt())


def effective_rank(codes: Tensor) -> float:
    """How many directions codes [N, D] fill: the exponential of the entropy of their centred singular values.

    1 for a single direction, at most N - 1; 1 also for codes that are all the same.
    Source: Roy, Vetterli 2007, "The effective rank".
    """
    centred = codes.double() - codes.double().mean(dim=0)
    values = torch.linalg.svdvals(centred.cpu())
    total = float(values.sum())
    if total == 0:
        return 1.0
    shares = values[values > 0] / total
    return float(torch.exp(-(shares * shares.log()).sum()))
