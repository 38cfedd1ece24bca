"""FAb-Net, TCAE and temporal consistency: as many numbers as published, and equal to their layer tables in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.export.networks import slow
from torch import nn

from psm_export.networks.fabnet import FabNet
from psm_export.networks.resnet18 import TemporalConsistency
from psm_export.networks.tcae import TcaeEncoder
from psm_export.sources.architectures import Name
from psm_export.sources.drawn import drawn_state

NETWORKS: list[tuple[Name, type[nn.Module], int]] = [
    ("fab-net-encoder", FabNet, 4_887_904),
    ("tcae-expression-encoder", TcaeEncoder, 8_035_488),
    ("temporal-consistency-resnet18", TemporalConsistency, 11_307_840),
]


@pytest.mark.parametrize(("network", "parameters"), [entry[1:] for entry in NETWORKS])
def test_they_have_the_published_size(network: type[nn.Module], parameters: int) -> None:
    assert sum(weight.numel() for weight in network().parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "network", "obvious", "size_px"),
    [
        ("fab-net-encoder", FabNet, slow.fab_net, 256),
        ("tcae-expression-encoder", TcaeEncoder, slow.tcae, 256),
        ("temporal-consistency-resnet18", TemporalConsistency, slow.temporal_consistency, 64),
    ],
)
def test_they_equal_their_layer_tables(
    name: Name, network: type[nn.Module], obvious: Callable, size_px: int, rng: np.random.Generator
) -> None:
    state = drawn_state(name, seed=3)
    made = network()
    made.load_state_dict(state, strict=False)
    image = rng.random((3, size_px, size_px))
    with torch.inference_mode():
        given = made.eval()(torch.from_numpy(image.astype(np.float32))[None])[0].numpy()
    wanted = obvious(image.astype(np.float32), {key: tensor.numpy() for key, tensor in state.items()})
    assert np.abs(wanted).max() > 0.05
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_fab_net_takes_the_size_of_its_code() -> None:
    assert FabNet(64)(torch.zeros(1, 3, 256, 256)).shape == (1, 64)


def test_embeddings_of_temporal_consistency_have_length_1_and_zero_stays_finite() -> None:
    made = TemporalConsistency().eval()
    nn.init.zeros_(made.fc1.weight)
    nn.init.zeros_(made.fc1.bias)
    with torch.inference_mode():
        assert float(made(torch.zeros(1, 3, 64, 64)).abs().max()) == 0
