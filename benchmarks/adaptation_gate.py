"""What the gate says to children that learned, and to children that are spoilt on purpose.

    python benchmarks/adaptation_gate.py REAL HELD_OUT [--epochs 1,3,6]

REAL and HELD_OUT are the crop stores that `psm-adapt general` makes. For each of six buffers of 500 faces a child of
the general model is fine-tuned on the first four fifths, and judged on the last tenth, as in an adaptation. Then each
child is spoilt in many ways, and judged again. Prints JSON: the figures of every verdict, and between what bounds those
of accepted children lie.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report, say
from torch import Tensor, nn

from psm_adapt.adaptation.gate import GateSettings, Judgement, judge
from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.data.augment import augment, plain
from psm_adapt.data.store import CropStore, open_store
from psm_adapt.general.shipped import general_checkpoint
from psm_adapt.networks import Networks, build_perceptual
from psm_adapt.objective import cycle_terms

BUFFERS = (
    ("grid_s31", 0, 500),
    ("audun_cap12_400x300", 300, 500),
    ("pyfeat_WolfgangLanger_Pexels", 0, 472),
    ("grid_s32", 100, 500),
    ("openwillis_not_expressive", 0, 249),
    ("grid_s1", 500, 500),
)
"""Recording, first face, faces."""
PAIRS = 8
RATE = 1e-4


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("stores", type=Path, nargs="+")
    given.add_argument("--epochs", default="1,3,6")
    chosen = given.parse_args()
    torch.set_num_threads(1)
    stores = [open_store(path) for path in chosen.stores]
    epochs = [int(epoch) for epoch in chosen.epochs.split(",")]
    parent = open_checkpoint(general_checkpoint()).networks().eval()
    perceptual = build_perceptual(parent.design)
    verdicts: dict[str, dict[str, Any]] = {}
    for name, start, count in BUFFERS:
        train, images = parts(stores, name, start, count)
        for epoch, child in children(parent, perceptual, train, epochs):
            found = verdicts[f"{name}, {epoch} epochs"] = {
                "learned": said(judge(parent, child, perceptual, images, GateSettings()))
            }
            say(f"{name}, {epoch} epochs: {found['learned']}")
            if epoch == epochs[-1]:
                for kind, bad in spoilt(parent, child, perceptual, train):
                    found[kind] = said(judge(parent, bad, perceptual, images, GateSettings()))
                    say(f"    {kind}: {found[kind]}")
    report(
        "gate", {"buffers": BUFFERS, "pairs_a_step": PAIRS, "rate": RATE}, summary(verdicts) | {"verdicts": verdicts}
    )


def parts(stores: list[CropStore], name: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Crops to learn from, and images to judge by."""
    store, one = next((store, one) for store in stores for one in store.recordings if one.name.endswith(name))
    rows = np.arange(one.start + start, one.start + min(start + count, one.count))
    return store.images(rows[: len(rows) * 4 // 5]), plain(store.images(rows[-(len(rows) // 10) :]))


def children(
    parent: Networks, perceptual: nn.Module | None, crops: Tensor, epochs: list[int]
) -> Iterator[tuple[int, Networks]]:
    """Give the child after each of some numbers of epochs."""
    child = copy.deepcopy(parent).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser, draw = torch.optim.AdamW(child.parameters(), RATE), torch.Generator().manual_seed(0)
    for epoch in range(1, max(epochs) + 1):
        order = torch.randperm(len(crops), generator=draw)
        for some in order[: len(order) // (2 * PAIRS) * 2 * PAIRS].reshape(-1, 2 * PAIRS):
            images = augment(crops[some], draw)
            step(child, optimiser, perceptual, images)
        if epoch in epochs:
            yield epoch, child
            child.train()


def step(child: Networks, optimiser: torch.optim.Optimizer, perceptual: nn.Module | None, images: Tensor) -> None:
    loss = cycle_terms(child, perceptual, images[:PAIRS], images[PAIRS:]).total
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def spoilt(
    parent: Networks, child: Networks, perceptual: nn.Module | None, crops: Tensor
) -> Iterator[tuple[str, Networks]]:
    """Give bad children: of the good one but for what the name says."""
    with torch.inference_mode():
        codes = child.eval().encoder(plain(crops[::8]))
    mean = codes.mean(0)
    first = torch.linalg.svd(codes - mean, full_matrices=False).Vh[:1]
    shuffle = torch.randperm(16, generator=torch.Generator().manual_seed(0))

    def of_others(own: Tensor) -> Tensor:
        """Exchange codes within each half of the pairs, so that each face has another's."""
        half = len(own) // 2
        order = shuffle[shuffle < half]
        return torch.cat((own[:half][order], own[half:][order]))

    yield "the parent itself", parent
    yield "all codes zero", with_codes(child, torch.zeros_like)
    yield "all codes the mean code", with_codes(child, lambda own: mean.expand(len(own), -1))
    yield "codes along one direction", with_codes(child, lambda own: mean + (own - mean) @ first.T @ first)
    yield "codes of other faces", with_codes(child, of_others)
    yield "numbers of the codes shuffled", with_codes(child, lambda own: own.flip(1))
    yield "codes a tenth as large", with_codes(child, lambda own: mean + (own - mean) / 10)
    yield "noise on the weights", noisy(child, 0.3)
    yield "weights of noise", noisy(child, None)
    yield "parent's encoder, flow that moves nothing", dead_flow(parent, child)
    yield "trained on with codes zero", copier(child, perceptual, crops)


def with_codes(child: Networks, change: Callable[[Tensor], Tensor]) -> Networks:
    bad = copy.deepcopy(child)
    bad.encoder = _Changed(child.encoder, change)  # type: ignore[assignment]
    return bad


class _Changed(nn.Module):
    def __init__(self, encoder: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.change = encoder, change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.encoder(images))


@torch.no_grad()
def noisy(child: Networks, share: float | None) -> Networks:
    """Noise of a share of each weight's deviation; None: in place of the weights."""
    bad, source = copy.deepcopy(child), torch.Generator().manual_seed(0)
    for weight in bad.parameters():
        if weight.numel() > 1:
            noise = torch.randn(weight.shape, generator=source) * weight.std()
            weight.copy_(noise if share is None else weight + share * noise)
    return bad


def dead_flow(parent: Networks, child: Networks) -> Networks:
    bad = copy.deepcopy(child)
    bad.encoder.load_state_dict(parent.encoder.state_dict())
    nn.init.zeros_(bad.flow_decoder.toflow4[3].weight)  # type: ignore[arg-type]
    return bad


def copier(child: Networks, perceptual: nn.Module | None, crops: Tensor) -> Networks:
    """The generator learns to copy well, while the codes are all zero: one epoch."""
    bad, draw = with_codes(child, torch.zeros_like).train(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW([*bad.generator.parameters(), *bad.flow_decoder.parameters()], RATE)
    order = torch.randperm(len(crops), generator=draw)
    for some in order[: len(order) // (2 * PAIRS) * 2 * PAIRS].reshape(-1, 2 * PAIRS):
        step(bad, optimiser, perceptual, augment(crops[some], draw))
    return bad


def said(found: Judgement) -> dict[str, Any]:
    return {"accepted": found.accepted, "reason": found.reason} | {
        name: round(value, 5) for name, value in found.figures.items()
    }


def summary(verdicts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    good = [found["learned"] for found in verdicts.values()]
    bad = [(kind, one) for found in verdicts.values() for kind, one in found.items() if kind != "learned"]
    accepted = [one for one in good if one["accepted"]]

    def ratios(name: str, of: list[dict[str, Any]]) -> list[float]:
        return sorted(round(one[f"{name}_after"] / max(one[f"{name}_before"], 1e-12), 3) for one in of)

    names = ("loss", "rebuilt_error", "neutral_distance", "code_rank", "code_spread")
    return {
        "learned": {"judged": len(good), "accepted": len(accepted)},
        "spoilt": {"judged": len(bad), "accepted": [kind for kind, one in bad if one["accepted"]]},
        "of_accepted": {name: [ratios(name, accepted)[0], ratios(name, accepted)[-1]] for name in names}
        | {
            "informed_lowest": min(one["informed_after"] for one in accepted),
            "neighbours_lowest": min(one["neighbours_kept"] for one in accepted),
        },
        "lower_loss_but_refused": sorted({kind for kind, one in bad if one["loss_after"] < one["loss_before"]}),
    }


if __name__ == "__main__":
    began = time.monotonic()
    main()
    say(f"{time.monotonic() - began:.0f} s")
