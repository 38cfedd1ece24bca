"""Shares: the same losses and gradients as one batch, and the same bits each time."""

import pytest
import torch
from torch import Tensor, nn

from psm_adapt.networks import Design, Networks, build_networks, build_perceptual
from psm_adapt.objective import cycle_terms
from psm_adapt.shares import Shares

DESIGN = Design(generator="light", stem="learned", perceptual="random", init="he")
PERCEPTUAL = build_perceptual(DESIGN)


@pytest.fixture(scope="module")
def shares() -> Shares:
    return Shares(2)


@pytest.fixture
def networks() -> Networks:
    return build_networks(DESIGN, 0)


def pairs(count: int) -> tuple[Tensor, Tensor]:
    drawn = torch.randn(2, count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    a, b = (nn.functional.interpolate(faces, (64, 64), mode="bicubic") for faces in drawn)
    return a, b


def in_shares(shares: Shares, networks: Networks, count: int) -> dict[str, Tensor]:
    a, b = (faces.chunk(shares.count) for faces in pairs(count))
    return shares.mean(
        lambda number: cycle_terms(networks, PERCEPTUAL, a[number], b[number]).named(), list(networks.trained())
    )


def gradients(networks: Networks) -> list[Tensor]:
    return [weight.grad.clone() for weight in networks.trained() if weight.grad is not None]


def test_shares_are_one_batch(shares: Shares, networks: Networks) -> None:
    whole = cycle_terms(networks, PERCEPTUAL, *pairs(4)).named()
    whole["total"].backward()
    wanted = gradients(networks)
    networks.zero_grad()
    given = in_shares(shares, networks, 4)
    (2 * given["total"]).backward()
    assert list(given) == list(whole)
    for name, value in whole.items():
        assert given[name].item() == pytest.approx(value.item(), rel=1e-5), name
    size = torch.cat([gradient.flatten() for gradient in wanted]).norm()
    for one, other in zip(gradients(networks), wanted, strict=True):
        assert (one / 2 - other).norm() < 1e-4 * size


def test_a_step_gives_the_same_bits_again(shares: Shares, networks: Networks) -> None:
    runs = []
    for _ in range(2):
        networks.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            terms = in_shares(shares, networks, 2)
        terms["total"].backward()
        runs.append([terms["total"].detach(), *gradients(networks)])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_the_callers_autocast_and_threads_hold(shares: Shares) -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    seen = []

    def loss(number: int) -> dict[str, Tensor]:
        made = weight @ weight
        seen.append((made.dtype, torch.get_num_threads()))
        return {"total": made.float().mean() * (number + 1)}

    before = torch.get_num_threads()
    with torch.autocast("cpu", torch.bfloat16):
        total = shares.mean(loss, [weight])["total"]
    shares.mean(loss, [weight])
    assert seen == [(torch.bfloat16, 1)] * 2 + [(torch.float32, 1)] * 2
    assert torch.get_num_threads() == before
    assert total.item() == pytest.approx(4 * 1.5)


def test_what_a_share_does_not_use_has_no_gradient(shares: Shares) -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    terms = shares.mean(lambda number: {"part": used.sum() * number, "total": used.sum() * number}, [used, unused])
    assert not terms["part"].requires_grad
    terms["total"].backward()
    assert unused.grad is None
    assert used.grad is not None
    assert used.grad.tolist() == [0.5, 0.5]


def test_an_error_in_a_share_is_raised(shares: Shares) -> None:
    def loss(number: int) -> dict[str, Tensor]:
        raise ValueError(f"share {number}")

    with pytest.raises(ValueError, match="share 0"):
        shares.mean(loss, [nn.Parameter(torch.ones(1))])
