"""The optimiser is Adam, with factors, and clipping is over everything."""

import pytest
import torch
from torch import nn

from psm_adapt.config import OptimiserSettings
from psm_adapt.train.optimiser import build_optimiser, clip, freeze_rest, set_rate
from psm_adapt.train.task import Group
from psm_stream.errors import TrainingError


def _gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_without_decay_it_is_adam() -> None:
    ours, theirs = (nn.Linear(5, 4) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimiser = build_optimiser([Group("all", list(ours.parameters()))], OptimiserSettings())
    reference = torch.optim.Adam(theirs.parameters(), lr=8e-5, betas=(0.5, 0.999), eps=1e-8)
    for step in range(5):
        set_rate(optimiser, 8e-5)
        for network, one in ((ours, optimiser), (theirs, reference)):
            _gradients(list(network.parameters()), step)
            one.step()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-6, atol=1e-8)


def test_decay_does_not_go_through_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimiser = build_optimiser([Group("all", [weight])], OptimiserSettings(weight_decay=0.1))
    set_rate(optimiser, 0.5)
    weight.grad = torch.zeros(1)
    optimiser.step()
    assert float(weight.detach()) == pytest.approx(2.0 * (1 - 0.5 * 0.1))


def test_groups_multiply_the_rate() -> None:
    a, b = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimiser = build_optimiser([Group("a", [a]), Group("b", [b], 0.1)], OptimiserSettings())
    set_rate(optimiser, 0.5)
    a.grad = b.grad = torch.ones(1)
    optimiser.step()
    assert (float(a.detach()), float(b.detach())) == pytest.approx((-0.5, -0.05))


def test_frozen_parameters_are_left_out() -> None:
    frozen, free = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)
    optimiser = build_optimiser([Group("all", [*frozen.parameters(), *free.parameters()])], OptimiserSettings())
    assert [len(group["params"]) for group in optimiser.param_groups] == [2]
    with pytest.raises(TrainingError, match="every parameter is frozen"):
        build_optimiser([Group("all", list(frozen.parameters()))], OptimiserSettings())


def test_what_is_in_no_group_is_frozen() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    freeze_rest(module, [Group("first", list(module[0].parameters()))])
    assert [parameter.requires_grad for parameter in module.parameters()] == [True, True, False, False]


def test_the_norm_is_that_of_all_gradients_and_is_cut_to_the_limit() -> None:
    a, b = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimiser = build_optimiser([Group("a", [a]), Group("b", [b], 0.1)], OptimiserSettings())
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert float(clip(optimiser, None)) == 5
    assert (float(a.grad), float(b.grad)) == (3, 4)
    assert float(clip(optimiser, 1.0)) == 5
    assert (float(a.grad), float(b.grad)) == pytest.approx((0.6, 0.8), rel=1e-4)
    assert float(clip(optimiser, 7.0)) == pytest.approx(1, rel=1e-4)
    assert (float(a.grad), float(b.grad)) == pytest.approx((0.6, 0.8), rel=1e-4)
