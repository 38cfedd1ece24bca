"""GloVe: vectors of tokens whose products say how often two of them stand together.

Full-batch, as in mittens, which the published vectors were made by: AdaGrad over all pairs at once. Source:
Pennington, Socher, Manning 2014, eq. 8 and 9; Tran et al. for the settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_stream.errors import TrainingError

Tell = Callable[[int, float], None]
"""Takes how many iterations are done, and the loss."""


@dataclass(frozen=True, slots=True)
class GloveSettings:
    """How vectors are trained. The defaults are the published ones, but for `iterations`, which are not published."""

    dimensions: int = 25
    x_max: float = 100.0
    alpha: float = 0.75
    rate: float = 0.05
    accumulator: float = 0.1
    """What AdaGrad's sums of squares begin with."""
    iterations: int = 1000
    seed: int = 0


def _nobody(done: int, loss: float) -> None:
    del done, loss


def train_vectors(
    counts: NDArray[np.float64], settings: GloveSettings, tell: Tell = _nobody
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train vectors of tokens.

    The loss is the sum over pairs of f(X) (w.c + b + b' - log X)^2 / 2 with f(X) = min(1, (X / x_max)^alpha); a pair
    that never was together counts nothing. Weights start uniformly within Xavier's bounds; w + c is the vector, and
    biases are left out of it.

    Args:
        counts: X, [V, V], how often each pair was together.
        settings: Of training.
        tell: Is told after each iteration.

    Returns vectors [V, dimensions], and the loss before each iteration [iterations].
    Raises TrainingError: it is not finite any more.
    """
    size, dimensions = len(counts), settings.dimensions
    rng = np.random.default_rng(settings.seed)
    # one matrix for words and one for contexts; the last column is the bias
    sides = [_begin(rng, size, dimensions) for _ in range(2)]
    squares = [np.full_like(side, settings.accumulator) for side in sides]
    weights = np.minimum(1.0, (counts / settings.x_max) ** settings.alpha)
    logs = np.log(np.where(counts > 0, counts, 1.0))
    losses = np.zeros(settings.iterations)
    for iteration in range(settings.iterations):
        word, context = sides
        with np.errstate(over="ignore", invalid="ignore"):  # told below, in words
            errors = word[:, :-1] @ context[:, :-1].T + word[:, -1:] + context[:, -1] - logs
            weighted = weights * errors
            losses[iteration] = 0.5 * float((weighted * errors).sum())
        if not np.isfinite(losses[iteration]):
            raise TrainingError(f"the loss of iteration {iteration + 1} is not finite; give a lower --rate")
        gradients = [_gradient(weighted, context), _gradient(weighted.T, word)]
        for n, gradient in enumerate(gradients):
            squares[n] += gradient**2
            sides[n] -= settings.rate * gradient / np.sqrt(squares[n])
        tell(iteration + 1, float(losses[iteration]))
    return sides[0][:, :-1] + sides[1][:, :-1], losses


def _begin(rng: np.random.Generator, size: int, dimensions: int) -> NDArray[np.float64]:
    """Draw uniformly within Xavier's bounds (Glorot, Bengio 2010), of the weights and of the bias: [V, d + 1]."""
    weights = rng.uniform(-1, 1, (size, dimensions)) * np.sqrt(6 / (size + dimensions))
    bias = rng.uniform(-1, 1, (size, 1)) * np.sqrt(6 / (size + 1))
    return np.hstack([weights, bias])


def _gradient(weighted: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differentiate by one side's weights and bias. weighted: [V, V] errors times f. other: the other side."""
    return np.hstack([weighted @ other[:, :-1], weighted.sum(axis=1, keepdims=True)])
