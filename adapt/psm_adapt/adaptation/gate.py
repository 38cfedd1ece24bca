"""The gate: a child model is taken only if it does better than its parent on faces that it has not learned from.

A lower loss alone proves little, since networks whose codes say nothing can still copy images well. So four things are
asked of faces held out, and each is compared with the parent's own figure on the same faces:

    better      faces rebuilt from another frame's neutral face and their own code are nearer to the truth
    informed    a face's own code rebuilds it better than the other frame's code does
    neutral     neutral faces of different expressions are not farther apart
    alive       codes fill as many directions, vary as much, and have mostly the same neighbours

docs/adaptation.md says what each threshold was chosen from (benchmarks/adaptation_gate.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from psm_adapt.data.augment import denormalise
from psm_adapt.evaluate.neutral import mean_distance
from psm_adapt.losses import PUBLISHED
from psm_adapt.networks import Networks
from psm_adapt.objective import draw_cycle, score_cycle, swap_halves
from psm_adapt.train.collapse import effective_rank, spread
from psm_stream.errors import TrainingError
from psm_stream.sections import Section

FEWEST = 4
"""Images: two pairs."""
_PAIRS_AT_ONCE = 16


class GateSettings(Section):
    """How much better a child must be, and how much else it may lose."""

    gain: float = Field(default=0.01, ge=0, lt=1)
    """Least share by which both the loss and the error of rebuilt faces must be lower than the parent's."""
    informed: float = Field(default=0.02, ge=-1, le=1)
    """Least share of the error with the other's code that a face's own code takes away; codes that say nothing have 0,
    and a model that does not know this person may have less."""
    neutral: float = Field(default=1.15, ge=1)
    """Most that the distance between neutral faces may be, as a multiple of the parent's."""
    rank: float = Field(default=0.5, ge=0)
    """Least effective rank of the codes, as a multiple of the parent's."""
    spread: float = Field(default=0.2, ge=0)
    """Least spread of the codes, as a multiple of the parent's."""
    neighbours: float = Field(default=0.3, ge=0, le=1)
    """Least share of nearest neighbours kept, from 0 for chance to 1 for all."""
    nearest: int = Field(default=5, ge=1)
    """How many neighbours a face has."""
    apart: int = Field(default=5, ge=1)
    """Faces before and after a face that are no neighbours of it, since they are alike in any code."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate found."""

    accepted: bool
    reason: str
    """One line, with the numbers that decided."""
    figures: dict[str, float]
    loss_before: float
    """The parent's `held_out_loss`."""
    loss_after: float
    """The child's."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a model makes of the faces held out. Errors are mean absolute differences of 0..1 RGB."""

    codes: Tensor
    """[n, 256] in order of time."""
    loss: float
    rebuilt: float
    """Error of faces drawn with their own code from the other's neutral face."""
    uninformed: float
    """Error of the same drawn with the other's code."""
    neutral: float
    """Mean distance between neutral faces, as in `psm_adapt.evaluate.neutral`."""


def held_out_loss(networks: Networks, perceptual: nn.Module | None, images: Tensor) -> float:
    """Compute the training objective on fixed pairs: without noise, augmentation or gradients.

    Each face is paired with the one half of the images later; with an odd count the last is left out.

    Args:
        networks: On the device of the images; left in evaluation mode.
        perceptual: As for `psm_adapt.objective.cycle_terms`.
        images: [n, 3, 64, 64] in order of time, ImageNet-normalised; at least 2.

    Raises TrainingError: fewer than 2 images.
    """
    if len(images) < 2:
        raise TrainingError("no held-out pair: one face or none is held out; give more faces")
    total = 0.0
    with torch.inference_mode():
        networks.eval()
        for pair in _pairs(images):
            terms = score_cycle(draw_cycle(networks, pair), pair, perceptual, PUBLISHED)
            total += float(terms.total) * len(pair)
    return total / (len(images) // 2 * 2)


def judge(
    parent: Networks, child: Networks, perceptual: nn.Module | None, images: Tensor, settings: GateSettings
) -> Judgement:
    """Decide whether the child may take its parent's place.

    Args:
        parent: What training started from.
        child: What came out.
        perceptual: As for `psm_adapt.objective.cycle_terms`.
        images: [n, 3, 64, 64] in order of time, ImageNet-normalised; faces that neither training nor the choice of the
            best epoch has seen.
        settings: The thresholds.

    Raises TrainingError: fewer than 4 images.
    """
    if len(images) < FEWEST:
        raise TrainingError(f"{len(images)} faces are held out for the gate, at least {FEWEST} are needed")
    before, after = (_see(networks, perceptual, images) for networks in (parent, child))
    figures = _figures(before, after, settings)
    refused = next(_objections(figures, settings), "")
    return Judgement(not refused, refused or _praise(figures), figures, before.loss, after.loss)


def kept_neighbours(before: Tensor, after: Tensor, nearest: int, apart: int) -> float:
    """Share of nearest neighbours in one space of codes that are so in another: 1 all, 0 as many as by chance.

    Args:
        before: [n, D], in order of time.
        after: [n, E], the same faces.
        nearest: Neighbours of a face; fewer where there are not twice as many candidates.
        apart: Faces nearer than this in time are no candidates.

    Returns NaN where there are fewer than two candidates for a face.
    """
    places = torch.arange(len(before), device=before.device)
    close = (places[:, None] - places).abs() <= apart
    candidates = int((~close).sum(1).min())
    k = min(nearest, candidates // 2)
    if k < 1:
        return math.nan
    kept = 0.0
    ours, theirs = (_nearest(codes, close, k) for codes in (before, after))
    for row in range(len(before)):
        chance = k / float((~close[row]).sum())
        share = float(torch.isin(ours[row], theirs[row]).double().mean())
        kept += (share - chance) / (1 - chance)
    return kept / len(before)


def _nearest(codes: Tensor, close: Tensor, k: int) -> Tensor:
    distances = torch.cdist(codes.double(), codes.double()).masked_fill(close, math.inf)
    return distances.topk(k, largest=False).indices


@torch.inference_mode()
def _see(networks: Networks, perceptual: nn.Module | None, images: Tensor) -> _Seen:
    networks.eval()
    losses, rebuilt, uninformed, faces = 0.0, 0.0, 0.0, 0
    codes: list[Tensor] = []
    neutral: list[Tensor] = []
    for pair in _pairs(images):
        cycle = draw_cycle(networks, pair)
        terms = score_cycle(cycle, pair, perceptual, PUBLISHED)
        with_others = networks.generator(swap_halves(cycle.neutral), swap_halves(cycle.back))
        shown = denormalise(pair)
        losses += float(terms.total) * len(pair)
        rebuilt += float((denormalise(cycle.rebuilt) - shown).abs().mean()) * len(pair)
        uninformed += float((denormalise(with_others) - shown).abs().mean()) * len(pair)
        faces += len(pair)
        codes.append(cycle.codes)
        neutral.append(denormalise(cycle.neutral))
    first, second = (torch.cat([part.chunk(2)[half] for part in codes]) for half in (0, 1))
    return _Seen(
        torch.cat((first, second)),
        losses / faces,
        rebuilt / faces,
        uninformed / faces,
        mean_distance(torch.cat(neutral)),
    )


def _pairs(images: Tensor) -> Iterator[Tensor]:
    """Give batches of pairs, first halves then second halves; a face's partner comes half of the images later."""
    count = len(images) // 2
    for start in range(0, count, _PAIRS_AT_ONCE):
        end = min(start + _PAIRS_AT_ONCE, count)
        yield torch.cat((images[start:end], images[count + start : count + end]))


def _figures(before: _Seen, after: _Seen, settings: GateSettings) -> dict[str, float]:
    kept = kept_neighbours(before.codes, after.codes, settings.nearest, settings.apart)
    rank_before, rank_after = _rank(before.codes), _rank(after.codes)
    spread_before, spread_after = spread(before.codes), spread(after.codes)
    return {
        "faces": float(len(after.codes)),
        "loss_before": before.loss,
        "loss_after": after.loss,
        "rebuilt_error_before": before.rebuilt,
        "rebuilt_error_after": after.rebuilt,
        "informed_before": _informed(before),
        "informed_after": _informed(after),
        "neutral_distance_before": before.neutral,
        "neutral_distance_after": after.neutral,
        "code_rank_before": rank_before,
        "code_rank_after": rank_after,
        "code_spread_before": spread_before,
        "code_spread_after": spread_after,
        "neighbours_kept": kept,
    }


def _rank(codes: Tensor) -> float:
    return effective_rank(codes) if bool(torch.isfinite(codes).all()) else math.nan


def _informed(seen: _Seen) -> float:
    """Share of the error with another's code that a face's own code takes away; 0 for codes that say nothing."""
    return 1 - seen.rebuilt / seen.uninformed if seen.uninformed > 0 else 0.0


def _objections(f: dict[str, float], settings: GateSettings) -> Iterator[str]:
    """Give every reason to refuse the child, the plainest first."""
    if broken := [name for name, value in f.items() if not math.isfinite(value) and name != "neighbours_kept"]:
        yield f"{broken[0]} is not finite"
        return
    for key, what in (("loss", "held-out loss"), ("rebuilt_error", "error of rebuilt faces")):
        yield from _too_high(f, key, what, 1 - settings.gain)
    if f["informed_after"] < settings.informed:
        yield (
            f"the codes say too little: with its own code a face is rebuilt {f['informed_after']:.1%} better than with "
            f"another's, at least {settings.informed:.1%} is asked for (the parent's {f['informed_before']:.1%})"
        )
    yield from _too_high(f, "neutral_distance", "distance between neutral faces", settings.neutral)
    for key, least in (("rank", settings.rank), ("spread", settings.spread)):
        found, wanted = f[f"code_{key}_after"], least * f[f"code_{key}_before"]
        if found < wanted:
            yield f"the codes collapsed: {key} {found:.3g}, at least {wanted:.3g} is asked for"
    if f["neighbours_kept"] < settings.neighbours:
        yield (
            f"the codes no longer order faces as the parent's do: {f['neighbours_kept']:.2f} of neighbours kept "
            f"beyond chance, at least {settings.neighbours:.2f} is asked for"
        )


def _too_high(f: dict[str, float], key: str, what: str, factor: float) -> Iterator[str]:
    before, after = f[f"{key}_before"], f[f"{key}_after"]
    if after > before * factor:
        yield f"{what} {after:.4g}, at most {before * factor:.4g} is asked for (the parent's {before:.4g})"


def _praise(f: dict[str, float]) -> str:
    return (
        f"held-out loss {f['loss_before']:.4g} to {f['loss_after']:.4g}, error of rebuilt faces "
        f"{f['rebuilt_error_before']:.4g} to {f['rebuilt_error_after']:.4g}, "
        f"{f['neighbours_kept']:.2f} of neighbours kept"
    )
