"""The encoder and the flow decoder: ranges, shapes, and what they start from."""

import pytest
import torch

from psm_adapt.networks import Encoder, FlowDecoder


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


def test_flows_lie_between_minus_one_and_one() -> None:
    torch.manual_seed(0)
    decoder = FlowDecoder()
    with torch.no_grad():
        flow = decoder(torch.randn(3, 256).tanh())
    assert flow.shape == (3, 2, 16, 16)
    assert 0 < float(flow.abs().max()) < 1
    assert decoder.toflow4[1].weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert decoder.toflow4[3].weight.std().item() == pytest.approx(0.05, rel=0.2)
    assert decoder.toflow4[3].bias is None
