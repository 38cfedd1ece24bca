"""The gate: a child that learned is taken; parents, collapsed, shuffled and noisy children are not."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from psm_adapt.adaptation.gate import GateSettings, Judgement, held_out_loss, judge, kept_neighbours
from psm_adapt.adaptation.snapshot import load_snapshot
from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.data.augment import denormalise
from psm_adapt.evaluate.neutral import mean_distance, neutral_faces
from psm_adapt.general.shipped import general_checkpoint
from psm_adapt.networks import Networks, build_perceptual
from psm_adapt.objective import cycle_terms
from psm_stream.errors import TrainingError

SETTINGS = GateSettings(apart=1, nearest=3)
PERCEPTUAL = build_perceptual(open_checkpoint(general_checkpoint()).design)


@pytest.fixture(scope="module")
def parent() -> Networks:
    return open_checkpoint(general_checkpoint()).networks().eval()


@pytest.fixture(scope="module")
def images(demo_snapshot: Path) -> Tensor:
    return load_snapshot(demo_snapshot).images()


@pytest.fixture(scope="module")
def held_out(images: Tensor) -> Tensor:
    return images[32:]


@pytest.fixture(scope="module")
def learned(parent: Networks, images: Tensor) -> Networks:
    """A child that took 10 steps on the first 32 faces."""
    child = copy.deepcopy(parent).train()
    optimiser = torch.optim.Adam(child.parameters(), 3e-4)
    draw = torch.Generator().manual_seed(0)
    for _ in range(10):
        some = images[torch.randperm(32, generator=draw)[:8]]
        loss = cycle_terms(child, PERCEPTUAL, some[:4], some[4:]).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return child


def changed(child: Networks, encoder: nn.Module) -> Networks:
    other = copy.deepcopy(child)
    other.encoder = encoder
    return other


class Codes(nn.Module):
    """Something done to the codes of an encoder."""

    def __init__(self, encoder: nn.Module, change) -> None:
        super().__init__()
        self.encoder, self.change = encoder, change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.encoder(images))


def test_a_child_that_learned_is_taken(parent, learned, held_out):
    found = judge(parent, learned, PERCEPTUAL, held_out, SETTINGS)
    assert found.accepted, found.reason
    assert found.loss_after < found.loss_before
    assert found.loss_before == pytest.approx(held_out_loss(parent, PERCEPTUAL, held_out))
    assert found.figures["loss_after"] == found.loss_after == held_out_loss(learned, PERCEPTUAL, held_out)
    assert f"{found.loss_after:.4g}" in found.reason


def test_the_parent_itself_is_not_better(parent, held_out):
    found = judge(parent, copy.deepcopy(parent), PERCEPTUAL, held_out, SETTINGS)
    assert_refused(found, "held-out loss")
    assert found.figures["neighbours_kept"] == 1
    assert found.loss_before == found.loss_after


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_codes_that_say_nothing_do_not_pass_however_low_the_loss(parent, learned, held_out, value):
    silent = changed(learned, Codes(learned.encoder, lambda codes: torch.full_like(codes, value)))
    found = judge(parent, silent, PERCEPTUAL, held_out, anything_better())
    assert found.figures["informed_after"] == pytest.approx(0, abs=1e-6)
    assert found.figures["code_spread_after"] == 0
    assert found.figures["code_rank_after"] == 1
    assert not found.accepted
    only_better = anything_better(informed=-1.0, rank=0, spread=0, neighbours=0)
    for limit, why in (("informed", "too little"), ("rank", "rank 1,"), ("spread", "spread 0,")):
        asked = only_better.model_copy(update={limit: getattr(SETTINGS, limit)})
        assert_refused(judge(parent, silent, None, held_out[:8], asked), why)


def test_a_flow_that_moves_nothing_is_seen_though_the_codes_are_the_parents(parent, learned, held_out):
    still = copy.deepcopy(learned)
    still.encoder.load_state_dict(parent.encoder.state_dict())
    nn.init.zeros_(still.flow_decoder.toflow4[3].weight)
    found = judge(parent, still, PERCEPTUAL, held_out, anything_better())
    assert found.figures["neighbours_kept"] == 1
    assert_refused(found, "the codes say too little")


def test_codes_of_other_faces(parent, learned, held_out):
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    exchanged = changed(learned, Codes(learned.encoder, lambda codes: codes[torch.cat((order, 8 + order))]))
    found = judge(parent, exchanged, PERCEPTUAL, held_out, anything_better(informed=-1.0))
    assert_refused(found, "neighbours kept")
    assert not judge(parent, exchanged, PERCEPTUAL, held_out, SETTINGS).accepted


def test_codes_whose_numbers_are_shuffled(parent, learned, held_out):
    shuffled = changed(learned, Codes(learned.encoder, lambda codes: codes.flip(1)))
    found = judge(parent, shuffled, PERCEPTUAL, held_out, SETTINGS)
    assert not found.accepted


def test_a_child_with_weights_of_noise(parent, held_out):
    noisy = copy.deepcopy(parent)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in noisy.parameters():
            weight.copy_(torch.randn(weight.shape, generator=source) * weight.std() if weight.numel() > 1 else weight)
    assert not judge(parent, noisy, PERCEPTUAL, held_out, SETTINGS).accepted


def test_what_is_not_finite_is_named(parent, held_out):
    broken = changed(parent, Codes(parent.encoder, lambda codes: codes * float("nan")))
    assert_refused(judge(parent, broken, PERCEPTUAL, held_out, SETTINGS), "loss_after is not finite")


def test_neutral_faces_that_differ_more(parent, learned, held_out):
    expected = [mean_distance(denormalise(neutral_faces(model, held_out))) for model in (parent, learned)]
    one, two = (learned, parent) if expected[0] > expected[1] else (parent, learned)
    found = judge(one, two, None, held_out, anything_better(informed=-1.0).model_copy(update={"neutral": 1.0}))
    figures = [found.figures[f"neutral_distance_{when}"] for when in ("before", "after")]
    assert figures == pytest.approx(sorted(expected), rel=1e-4)
    assert_refused(found, "distance between neutral faces")


def test_held_out_loss_pairs_by_half_and_leaves_out_an_odd_face(parent, held_out):
    parent.train()
    with torch.no_grad():
        expected = cycle_terms(parent, PERCEPTUAL, held_out[:8], held_out[8:16]).total
    assert held_out_loss(parent, PERCEPTUAL, held_out) == pytest.approx(float(expected), rel=1e-5)
    assert not parent.training
    assert held_out_loss(parent, None, torch.cat((held_out[:3], held_out[:2]))) == pytest.approx(
        held_out_loss(parent, None, held_out[[0, 1, 2, 0]])
    )


def test_too_few_faces(parent, held_out):
    with pytest.raises(TrainingError, match="at least 4"):
        judge(parent, parent, None, held_out[:3], SETTINGS)
    with pytest.raises(TrainingError, match="give more"):
        held_out_loss(parent, None, held_out[:1])


def test_kept_neighbours_by_hand():
    line = torch.arange(40.0)[:, None]
    assert kept_neighbours(line, -3 * line, 4, 2) == 1
    # 0, 1 -> 39, 0: neighbours in time are no candidates, so a slow walk alone is worth nothing
    draw = torch.Generator().manual_seed(0)
    walks = [torch.randn(400, 8, generator=draw).cumsum(0) for _ in range(2)]
    apart = kept_neighbours(walks[0], walks[1], 5, 20)
    assert apart < 0.5 * kept_neighbours(walks[0], walks[1], 5, 0)
    assert abs(kept_neighbours(torch.randn(300, 8, generator=draw), torch.randn(300, 8, generator=draw), 5, 5)) < 0.02
    assert np.isnan(kept_neighbours(line[:4], line[:4], 5, 5))


def anything_better(**changes: float) -> GateSettings:
    """The gate without the questions whether loss and neutral faces are better."""
    return SETTINGS.model_copy(update={"gain": -9.0, "neutral": 99.0} | changes)


def assert_refused(found: Judgement, why: str) -> None:
    assert not found.accepted
    assert why in found.reason
    assert "\n" not in found.reason
