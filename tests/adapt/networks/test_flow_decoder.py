"""The flow decoder: ranges, shapes, and what it starts from."""

import pytest
import torch

from psm_adapt.networks import FlowDecoder


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
