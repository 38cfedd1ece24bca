"""Fixtures for the tests of networks."""

from pathlib import Path

import pytest
from tests.adapt.golden import fill

from psm_adapt.networks import Vgg19
from psm_adapt.networks.vgg19_weights import Vgg19Weights, digest


@pytest.fixture(scope="session")
def vgg19() -> Vgg19Weights:
    """Made-up weights in VGG19's shapes."""
    network = Vgg19()
    fill(network, "vgg19", "made up")
    tensors = dict(network.state_dict())
    return Vgg19Weights(tensors, Path("made-up.pth"), digest(tensors))
