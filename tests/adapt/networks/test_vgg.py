"""VGG19's layers: which maps are given, and that they are frozen."""

import torch
from torch import nn

from psm_adapt.networks import Vgg19
from psm_adapt.networks.vgg19_weights import Vgg19Weights


def test_features_are_those_of_the_sequence_of_layers(vgg19: Vgg19Weights) -> None:
    network = Vgg19()
    network.load_state_dict(vgg19.tensors)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        given = network(images)
        x, wanted = images, []
        for name, layer in network.named_children():
            assert isinstance(layer, nn.Sequential)
            if name in {"conv2_1", "conv3_1", "conv4_1"}:
                x = nn.functional.max_pool2d(x, 2)
            x = layer(x)
            if name in {"conv2_1", "conv3_1", "conv4_1"}:
                wanted.append(x.clone())
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert [tuple(maps.shape[1:]) for maps in given] == [(128, 32, 32), (256, 16, 16), (512, 8, 8)]


def test_no_weight_is_trained() -> None:
    assert not any(weight.requires_grad for weight in Vgg19().parameters())
