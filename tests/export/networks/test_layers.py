"""Layers equal slow obvious versions; initial weights have the spread they should."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from psm_export.networks.layers import Attention, Residual, init_published, rows_of


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def at_each_place(layer: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    """A 1x1 convolution of [C, P]."""
    assert layer.bias is not None
    return layer.weight.detach().numpy()[:, :, 0, 0] @ x + layer.bias.detach().numpy()[:, None]


def slow_attention(block: Attention, x: np.ndarray) -> np.ndarray:
    """One map [C, P], place by place."""
    channels, places = x.shape
    g, theta, phi = (at_each_place(layer, x) for layer in (block.g, block.theta, block.phi))
    theta = np.exp(theta) / np.exp(theta).sum(axis=1, keepdims=True)
    g = np.exp(g) / np.exp(g).sum(axis=0, keepdims=True)
    result = x.copy()
    for c in range(channels):
        for p in range(places):
            for d in range(channels):
                result[c, p] += sum(phi[c, q] * theta[d, q] for q in range(places)) * g[d, p]
    return np.where(result > 0, result, 0.1 * result)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_attention_is_the_slow_attention(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    block = Attention(5)
    for layer in (block.g, block.theta, block.phi):
        nn.init.normal_(layer.weight)
    x = random(2, 5, 3, 4).contiguous(memory_format=layout)
    wanted = np.stack([slow_attention(block, one.flatten(1).numpy()).reshape(5, 3, 4) for one in x])
    np.testing.assert_allclose(block(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_a_residual_block_leaves_its_input_as_it_is() -> None:
    torch.manual_seed(0)
    block, x = Residual(4), random(1, 4, 6, 6)
    before = x.clone()
    given = block(x)
    assert torch.equal(x, before)
    inner = nn.functional.leaky_relu(block.conv1(x), 0.1)
    torch.testing.assert_close(given, nn.functional.leaky_relu(block.conv2(inner) + x, 0.1))


def test_rows_are_places() -> None:
    maps = random(2, 3, 4, 5)
    rows = rows_of(maps)
    assert rows.shape == (2, 20, 3)
    torch.testing.assert_close(rows[1, 7], maps[1, :, 1, 2])
    assert rows_of(maps.contiguous(memory_format=torch.channels_last)).is_contiguous()


def test_published_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 128, 3), nn.Conv2d(8, 4096, 1, bias=False), nn.Linear(512, 256))
    init_published(network)
    network.requires_grad_(False)
    wide, thin, linear = network
    assert float(wide.weight.std()) == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert float(thin.weight.std()) == pytest.approx(math.sqrt(2 / 4096), rel=0.02)
    assert float(linear.weight.std()) == pytest.approx(0.01, rel=0.02)
    assert float(wide.bias.abs().max()) == float(linear.bias.abs().max()) == 0
