"""One training step on several CPU threads that never wait for each other: each takes a share of the batch.

PyTorch divides every single operation among its threads, which meet again after each. Where other programs run too, the
threads spend their time waiting for the one that was put aside: on two busy cores a step of the light design took 14 s,
and 1.6 s in shares. Each share is computed whole, forward and backward, by one thread, and the gradients are averaged,
as over the processes of a distributed training, but without copies of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[int], Mapping[str, Tensor]]
"""Computes the losses of one share, 0-based: named scalars, among them `total`."""


@dataclass(frozen=True)
class _Autocast:
    """The autocast state of the thread that asks, for those that compute."""

    enabled: bool
    dtype: torch.dtype

    def __call__(self) -> torch.autocast:
        return torch.autocast("cpu", self.dtype, enabled=self.enabled)


class Shares:
    """Threads that compute one share of a step each.

    Args:
        count: Shares, and threads; each thread uses one core.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        before = torch.get_num_threads()
        self._threads = ThreadPoolExecutor(count, "share", initializer=torch.set_num_threads, initargs=(1,))
        list(self._threads.map(lambda _: None, range(count)))
        torch.set_num_threads(before)  # a thread that sets its own number also sets that of threads to come

    def mean(self, loss: Loss, trained: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        """Compute all shares and average them. The shares must be equally large, and their losses means.

        Args:
            loss: Computes a share's losses, under the caller's autocast state.
            trained: What `total` is differentiated by; its gradients are there already, and `total.backward()` only
                hands them over.

        Returns: The losses by name; all but `total` have no gradient. What a share raises is raised.
        """
        names: list[str] = []
        values = _Mean.apply(self._compute, loss, names, *trained)  # type: ignore[no-untyped-call]
        return {name: value if name == "total" else value.detach() for name, value in zip(names, values, strict=True)}

    def _compute(self, loss: Loss, trained: Sequence[nn.Parameter]) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        autocast = _Autocast(torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))

        def share(number: int) -> tuple[dict[str, Tensor], tuple[Tensor | None, ...]]:
            with autocast():
                terms = loss(number)
            gradients = torch.autograd.grad(terms["total"], trained, allow_unused=True)
            return {name: value.detach() for name, value in terms.items()}, gradients

        results = list(self._threads.map(share, range(self.count)))
        losses = {name: sum((terms[name] for terms, _ in results)) / self.count for name in results[0][0]}
        return losses, [_mean(of_shares) for of_shares in zip(*(gradients for _, gradients in results), strict=True)]


class _Mean(torch.autograd.Function):
    """Losses whose gradients are already known."""

    @staticmethod
    def forward(ctx: Any, compute: Any, loss: Loss, names: list[str], *trained: nn.Parameter) -> tuple[Tensor, ...]:
        losses, ctx.gradients = compute(loss, trained)
        names += losses
        ctx.total = names.index("total")
        return tuple(losses.values())

    @staticmethod
    def backward(ctx: Any, *of_losses: Tensor) -> tuple[Tensor | None, ...]:
        factor = of_losses[ctx.total]
        gradients = [None if gradient is None else gradient.mul_(factor) for gradient in ctx.gradients]
        return (None, None, None, *gradients)


def _mean(gradients: Sequence[Tensor | None]) -> Tensor | None:
    known = [gradient for gradient in gradients if gradient is not None]
    if not known:
        return None
    total = known[0]
    for gradient in known[1:]:
        total = total + gradient
    return total / len(gradients)
