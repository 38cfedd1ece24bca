"""GloVe, against the formulae of the paper written out as loops, and on company that was made up."""

import math
from itertools import pairwise

import numpy as np
import pytest

from psm_adapt.vocabulary.glove import GloveSettings, train_vectors
from psm_stream.errors import TrainingError


def slowly(counts: np.ndarray, settings: GloveSettings) -> tuple[np.ndarray, list[float]]:
    """Loop over pairs and dimensions; Pennington et al. 2014, eq. 8, differentiated by hand."""
    size, d = len(counts), settings.dimensions
    rng = np.random.default_rng(settings.seed)
    sides = []
    for _ in range(2):  # words, then contexts; weights, then biases
        weights = rng.uniform(-1, 1, (size, d)) * math.sqrt(6 / (size + d))
        biases = rng.uniform(-1, 1, (size, 1)) * math.sqrt(6 / (size + 1))
        sides.append([[*weights[i].tolist(), float(biases[i, 0])] for i in range(size)])
    sums = [[[settings.accumulator] * (d + 1) for _ in range(size)] for _ in range(2)]
    losses = []
    for _ in range(settings.iterations):
        loss = 0.0
        slopes = [[[0.0] * (d + 1) for _ in range(size)] for _ in range(2)]
        for i in range(size):
            for j in range(size):
                if counts[i, j] == 0:
                    continue
                f = min(1.0, (counts[i, j] / settings.x_max) ** settings.alpha)
                product = sum(sides[0][i][k] * sides[1][j][k] for k in range(d))
                error = product + sides[0][i][d] + sides[1][j][d] - math.log(counts[i, j])
                loss += 0.5 * f * error**2
                for k in range(d):
                    slopes[0][i][k] += f * error * sides[1][j][k]
                    slopes[1][j][k] += f * error * sides[0][i][k]
                slopes[0][i][d] += f * error
                slopes[1][j][d] += f * error
        losses.append(loss)
        for side in range(2):
            for i in range(size):
                for k in range(d + 1):
                    sums[side][i][k] += slopes[side][i][k] ** 2
                    sides[side][i][k] -= settings.rate * slopes[side][i][k] / math.sqrt(sums[side][i][k])
    return np.array(sides[0])[:, :d] + np.array(sides[1])[:, :d], losses


def some_counts(rng: np.random.Generator, size: int) -> np.ndarray:
    """Symmetric counts, some of them 0 and some above x_max."""
    half = np.triu(rng.poisson(40, (size, size)) * rng.integers(0, 6, (size, size)))
    return (half + half.T).astype(np.float64)


def test_it_equals_the_obvious_loop(rng: np.random.Generator) -> None:
    counts = some_counts(rng, 6)
    assert (counts == 0).any()
    assert (counts > 100).any()
    settings = GloveSettings(dimensions=4, iterations=25, seed=7)
    vectors, losses = train_vectors(counts, settings)
    expected, expected_losses = slowly(counts, settings)
    np.testing.assert_allclose(vectors, expected, rtol=1e-9)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-9)


def test_the_loss_falls_and_the_same_seed_gives_the_same_bits(rng: np.random.Generator) -> None:
    counts = some_counts(rng, 30)
    settings = GloveSettings(iterations=200)
    vectors, losses = train_vectors(counts, settings)
    assert losses[-1] < 0.05 * losses[0]
    assert (np.diff(losses) < 0).mean() > 0.9
    np.testing.assert_array_equal(train_vectors(counts, settings)[0], vectors)


def test_products_say_how_often_two_stand_together() -> None:
    """With enough dimensions, w.c + b + b' is log X; W + C and its products follow it too."""
    company = np.kron(np.eye(2), np.full((4, 4), 90.0)) + 5.0
    vectors, losses = train_vectors(company, GloveSettings(dimensions=8, iterations=4000))
    assert losses[-1] < 0.01
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    same = company > 50
    assert cosines[same].min() > cosines[~same].max()


def test_pairs_that_never_met_do_not_count(rng: np.random.Generator) -> None:
    """log 0 is left out, and not taken for anything: a token without company keeps what it began with."""
    counts = some_counts(rng, 5)
    counts[3] = counts[:, 3] = 0
    settings = GloveSettings(dimensions=3, iterations=30)
    vectors, _ = train_vectors(counts, settings)
    at_first, _ = train_vectors(np.zeros((5, 5)), settings)
    np.testing.assert_array_equal(vectors[3], at_first[3])
    assert not np.isclose(vectors[0], at_first[0]).any()


def test_what_is_told_is_each_iteration(rng: np.random.Generator) -> None:
    told: list[tuple[int, float]] = []
    _, losses = train_vectors(some_counts(rng, 4), GloveSettings(iterations=5), lambda *one: told.append(one))
    assert told == list(zip(range(1, 6), losses, strict=True))
    assert all(after < before for (_, before), (_, after) in pairwise(told))


def test_a_loss_that_is_not_finite_is_told_in_words() -> None:
    """GloVe's own program gives NaN for some rates, and goes on."""
    with pytest.raises(TrainingError, match="give a lower --rate"):
        train_vectors(np.full((3, 3), 50.0), GloveSettings(rate=1e200, iterations=20))
