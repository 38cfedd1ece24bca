"""FaceCycle's encoder: ranges and shapes."""

import torch

from psm_export.networks.facecycle import Encoder


def test_codes_lie_between_minus_one_and_one() -> None:
    torch.manual_seed(0)
    encoder = Encoder()
    images = 3 * torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        codes, maps = encoder(images), encoder.features(images)
    assert codes.shape == (3, 256)
    assert float(codes.abs().max()) < 1
    assert maps.shape == (3, 128, 4, 4)
    assert encoder.features(torch.randn(1, 3, 100, 100)).shape == (1, 128, 7, 7)  # the authors' RAF-DB probe
