"""The published probe: no bias, balanced weights, and no test statistic in what it learns."""

import numpy as np
import pytest
import torch
from tests.adapt.evaluate.conftest import episodes
from torch import nn

from psm_adapt.evaluate.linear import Recipe, balanced_weights, said_by_linear
from psm_adapt.evaluate.scores import f1_of_units


def halves(seed: int, noise: float) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(seed)
    labels = episodes(400, 3, seed)
    features = (labels @ draw.normal(size=(3, 6)) + noise * draw.normal(size=(400, 6))) * 30 + 100
    is_test = np.arange(400) % 4 == 0
    return (features[~is_test], labels[~is_test]), (features[is_test], labels[is_test])


def test_it_learns_what_can_be_separated():
    train, test = halves(0, noise=0.02)
    assert f1_of_units(test[1], said_by_linear(train, test)).min() == 1.0


def plain_probe(train_x, train_y, test_x, seed: int) -> np.ndarray:
    """Train PyTorch's own layers. Returns logits of the test frames."""
    norm, linear = (
        nn.BatchNorm1d(train_x.shape[1], momentum=None),
        nn.Linear(train_x.shape[1], train_y.shape[1], bias=False),
    )
    first = torch.rand(linear.weight.shape, generator=torch.Generator().manual_seed(seed))
    linear.weight.data = (2 * first - 1) / train_x.shape[1] ** 0.5
    features, truth = torch.tensor(train_x, dtype=torch.float32), torch.tensor(train_y, dtype=torch.float32)
    adam = torch.optim.Adam([*norm.parameters(), *linear.parameters()], 0.01)
    loss = nn.BCEWithLogitsLoss(weight=balanced_weights(truth))
    for _ in range(300):
        adam.zero_grad()
        loss(linear(norm(features)), truth).backward()
        adam.step()
    norm.eval()
    with torch.inference_mode():
        return linear(norm(torch.tensor(test_x, dtype=torch.float32))).numpy()


def test_it_equals_pytorchs_layers():
    (train_x, train_y), test = halves(6, noise=1.0)
    logits = plain_probe(train_x, train_y, test[0], seed=0)
    said = said_by_linear((train_x, train_y), test)
    # nn.BatchNorm1d takes the unbiased variance for the test frames, 1/300 more
    is_clear = np.abs(logits) > 0.02
    assert is_clear.mean() > 0.95
    np.testing.assert_array_equal(said[is_clear], logits[is_clear] > 0)


def test_weights_by_hand():
    truth = torch.tensor([[1.0, 1], [0, 1], [0, 1], [0, 1]])
    expected = [[2, 0.5], [2 / 3, 0.5], [2 / 3, 0.5], [2 / 3, 0.5]]
    torch.testing.assert_close(balanced_weights(truth), torch.tensor(expected))


def test_both_classes_weigh_the_same(rng):
    truth = torch.from_numpy((rng.random((500, 4)) < [0.02, 0.2, 0.5, 0.9]).astype(np.float32))
    weights = balanced_weights(truth)
    torch.testing.assert_close((weights * truth).sum(0), (weights * (1 - truth)).sum(0))
    torch.testing.assert_close(weights.mean(0), torch.ones(4))


def test_test_frames_do_not_see_each_other():
    train, (features, labels) = halves(1, noise=0.5)
    together = said_by_linear(train, (features, labels))
    apart = np.concatenate(
        [said_by_linear(train, (features[n : n + 20], labels[n : n + 20])) for n in range(0, 100, 20)]
    )
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(together, said_by_linear(train, (features, ~labels)))


def test_the_scale_of_features_does_not_matter():
    (train_x, train_y), (test_x, test_y) = halves(2, noise=0.5)
    scale = 10.0 ** np.arange(-2, 4)
    plain = said_by_linear((train_x, train_y), (test_x, test_y))
    scaled = said_by_linear((train_x * scale, train_y), (test_x * scale, test_y))
    assert (plain == scaled).mean() > 0.98  # BatchNorm's epsilon and rounding are all that differs


def test_the_global_random_state_is_left_alone_and_does_not_matter():
    train, test = halves(3, noise=0.5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = said_by_linear(train, test)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(first, said_by_linear(train, test))


@pytest.mark.parametrize("value", [False, True])
def test_a_unit_of_one_class_is_always_said_to_be_so(value):
    (train_x, train_y), test = halves(4, noise=0.5)
    train_y[:, 1] = value
    assert (said_by_linear((train_x, train_y), test)[:, 1] == value).mean() > 0.9


def test_more_steps_fit_better():
    train, _ = halves(5, noise=1.5)
    few, many = (f1_of_units(train[1], said_by_linear(train, train, Recipe(steps=steps))).mean() for steps in (2, 200))
    assert many > few + 0.05
