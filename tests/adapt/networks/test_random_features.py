"""Random features: a seed's own, at three scales, deaf to nothing but zero."""

import torch
from torch.nn import functional as F

from psm_adapt.networks import RandomFeatures


def test_features_are_a_strided_convolution_with_large_filters() -> None:
    network = RandomFeatures(3)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    near, middle, far = network(images)
    assert [tuple(maps.shape) for maps in (near, middle, far)] == [(2, 32, side, side) for side in (32, 16, 8)]
    filters = F.pixel_shuffle(network.filters.reshape(32, 12, 3, 3), 2)
    torch.testing.assert_close(near, F.relu(F.conv2d(images, filters, stride=2, padding=2)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(middle, network(F.avg_pool2d(images, 2))[0])


def test_a_seed_gives_its_filters_and_they_are_not_trained() -> None:
    torch.manual_seed(1)
    one, same, other = RandomFeatures(1), RandomFeatures(1), RandomFeatures(2)
    assert torch.equal(one.filters, same.filters)
    assert not torch.equal(one.filters, other.filters)
    assert not list(one.parameters())
    assert not one.state_dict()
