"""Doubling equals what it stands for; He's initial weights have the spread they should."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from psm_adapt.networks.blocks import Doubling, init_he_linear


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_doubling_is_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    ours, theirs = Doubling(6, 4), nn.ConvTranspose2d(6, 4, 4, 2, 1)
    theirs.load_state_dict(ours.state_dict())
    x = random(2, 6, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=1e-4, atol=1e-4)


def test_he_draws_the_linear_layers_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(512, 256))
    before = network[0].weight.clone()
    init_he_linear(network)
    network.requires_grad_(False)
    assert torch.equal(network[0].weight, before)
    assert float(network[1].weight.std()) == pytest.approx(math.sqrt(2 / 512), rel=0.02)
