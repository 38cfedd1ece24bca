"""Collapse: what counts as one, and that one bad look does not."""

import pytest
import torch

from psm_adapt.networks.design import Design, build_networks
from psm_adapt.train.collapse import LASTING, PATIENCE, Watch, effective_rank, signs_of_collapse, spread
from psm_adapt.train.task import Probe

NOISE = torch.Generator().manual_seed(0)


def _codes(directions: int) -> torch.Tensor:
    return torch.randn(64, directions, generator=NOISE) @ torch.randn(directions, 256, generator=NOISE) * 0.1


def test_effective_rank_counts_directions_of_equal_strength() -> None:
    orthogonal, _ = torch.linalg.qr(torch.randn(64, 8, generator=NOISE))
    centred = torch.cat([orthogonal, -orthogonal])
    assert effective_rank(centred) == pytest.approx(8, rel=1e-4)
    assert effective_rank(centred[:, :1]) == pytest.approx(1)
    assert effective_rank(torch.ones(5, 3)) == 1
    strengths = torch.tensor([1.0, 0.1])  # entropy of 10/11 and 1/11
    assert effective_rank(centred[:, :2] * strengths) == pytest.approx(1.356, abs=1e-3)


def test_spread_is_the_deviation_over_images() -> None:
    values = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
    assert spread(values) == pytest.approx((1 / 2) ** 0.5)


@pytest.mark.parametrize(
    ("probe", "says"),
    [
        (Probe(codes=torch.full((16, 256), 0.3)), "codes are the same for every face"),
        (Probe(codes=0.5 + 1e-6 * torch.randn(16, 256, generator=NOISE)), "codes are the same"),
        (Probe(codes=_codes(1)), "one direction only"),
        (Probe(flow=torch.zeros(16, 2, 16, 16)), "the flow moves nothing"),
        (Probe(output=torch.randn(1, 3, 8, 8, generator=NOISE).expand(16, 3, 8, 8)), "rebuilt images are the same"),
    ],
)
def test_signs(probe: Probe, says: str) -> None:
    (found,) = signs_of_collapse(probe).values()
    assert says in found


@pytest.mark.parametrize(
    "probe",
    [
        Probe(),
        Probe(codes=_codes(4)),
        Probe(codes=1e-3 * _codes(4), flow=torch.full((2, 2, 2, 2), 1e-3), output=torch.rand(4, 3, 8, 8)),
    ],
)
def test_no_signs(probe: Probe) -> None:
    assert signs_of_collapse(probe) == {}


def test_a_new_encoder_as_published_has_not_collapsed() -> None:
    """Its last layers start at N(0, 0.01), so its codes differ little from each other."""
    networks = build_networks(Design(stem="learned", perceptual="none"), seed=2)
    images = torch.randn(16, 3, 64, 64, generator=NOISE)
    with torch.no_grad():
        codes = networks.encoder(images)
        assert signs_of_collapse(Probe(codes, networks.flow_decoder(codes))) == {}


def test_only_the_same_sign_many_times_in_a_row_is_a_collapse() -> None:
    flat, fine = Probe(codes=torch.zeros(4, 8)), Probe(codes=_codes(4))
    watch = Watch()
    assert [watch.look(flat, LASTING * n) for n in range(PATIENCE - 1)] == [None] * (PATIENCE - 1)
    assert watch.look(fine, LASTING * PATIENCE) is None
    later = [watch.look(flat, LASTING * (10 + n)) for n in range(PATIENCE)]
    assert later[:-1] == [None] * (PATIENCE - 1)
    assert "the same for every face" in (later[-1] or "")


def test_epochs_of_a_single_step_are_no_reason_to_hurry() -> None:
    flat, watch = Probe(codes=torch.zeros(4, 8)), Watch()
    found = [step for step in range(1, 2 * LASTING) if watch.look(flat, step)]
    assert found[0] == LASTING + 1


def test_the_rank_of_a_handful_of_images_is_not_looked_at() -> None:
    assert signs_of_collapse(Probe(codes=_codes(1)[:7])) == {}
    assert signs_of_collapse(Probe(codes=_codes(1)[:8]))
