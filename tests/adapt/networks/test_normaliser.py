"""The normaliser restyles features by an identity code, in two ways that do not share weights."""

import torch

from psm_adapt.networks import Normaliser
from psm_adapt.networks.normaliser import Restyle


def test_restyled_features_have_the_mean_and_deviation_of_the_code() -> None:
    torch.manual_seed(0)
    restyle = Restyle(256)
    x, codes = 3 + 2 * torch.randn(2, 256, 16, 16), torch.randn(2, 256).tanh()
    with torch.no_grad():
        styled = restyle(x, codes)
        beta = restyle.beta(codes[:, :, None, None])[..., 0, 0]
        gamma = restyle.gamma(codes[:, :, None, None])[..., 0, 0]
    torch.testing.assert_close(styled.mean((2, 3)), beta, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(styled.std((2, 3), correction=0), gamma.abs(), atol=1e-4, rtol=1e-3)


def test_the_two_ways_and_the_codes_matter() -> None:
    torch.manual_seed(0)
    normaliser = Normaliser()
    images, codes = torch.randn(1, 3, 64, 64), torch.randn(1, 256).tanh()
    with torch.no_grad():
        off, on = normaliser(images, codes, "denorm"), normaliser(images, codes, "renorm")
        other = normaliser(images, -codes, "denorm")
    assert off.shape == on.shape == (1, 3, 64, 64)
    assert not torch.allclose(off, on)
    assert not torch.allclose(off, other)
