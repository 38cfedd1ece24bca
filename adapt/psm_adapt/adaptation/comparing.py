"""Looking at a parent and its child side by side: what both make of the same faces, and what was asked of the child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psm_adapt.adaptation.collecting import Blendshapes
from psm_adapt.adaptation.gate import GateSettings
from psm_adapt.adaptation.snapshot import Rows, Snapshot, Split
from psm_adapt.adaptation.work import Outcome
from psm_adapt.data.augment import denormalise
from psm_adapt.evaluate.blendshape_labels import PROXY_NAMES, proxy_labels
from psm_adapt.evaluate.neutral import mean_distance
from psm_adapt.evaluate.probe import within_person
from psm_adapt.evaluate.scores import mean_of_known
from psm_adapt.networks.design import Networks
from psm_adapt.objective import draw_cycle

SHOWN = 4
"""Faces in the grid."""
MOST_CODES = 400
"""Faces whose codes are drawn, evenly spread."""
_AT_ONCE = 32

Pictures = NDArray[np.float32]
"""[k, 64, 64, 3] RGB, 0..1."""
Codes = NDArray[np.float32]
"""[n, 256]."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a model draws of k faces. error: [k], mean absolute difference of reconstruction and input, 0..1."""

    neutral: Pictures
    warped: Pictures
    reconstruction: Pictures
    error: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Preview:
    """Faces that neither model has learned from, and both models' drawings of them."""

    faces: Pictures
    before: Drawn
    after: Drawn


@dataclass(frozen=True, slots=True)
class CodeMap:
    """Codes of m faces by both models. t: [m] s. is_held_out: bool [m]. faces: what they are of."""

    before: Codes
    after: Codes
    t: NDArray[np.float64]
    is_held_out: NDArray[np.bool_]
    faces: Pictures


@dataclass(frozen=True, slots=True)
class Probed:
    """The probe within the held-out faces: F1 of each action unit's proxy, NaN where it does not count."""

    frames: int
    units: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def means(self) -> tuple[float, float]:
        """Over the action units that count."""
        return float(mean_of_known(self.before)), float(mean_of_known(self.after))


@dataclass(frozen=True, slots=True)
class Compared:
    """Parent and child side by side. of_inputs: distance between the held-out faces themselves, as neutral faces'."""

    preview: Preview
    codes: CodeMap
    of_inputs: float
    probed: Probed | None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the gate asks. before: None where only the child has it. asked: the bound, for people."""

    what: str
    before: float | None
    after: float
    asked: str
    is_met: bool


def compare(outcome: Outcome, blendshapes: Blendshapes | None) -> Compared | None:
    """Look at both models; None where there is no child. blendshapes: of each face of the outcome's snapshot."""
    parts, child = outcome.parts, outcome.child
    if parts is None or child is None:
        return None
    parent, child = outcome.parent.cpu().eval(), child.cpu().eval()
    judged = outcome.snapshot.only(parts.judge).images()
    return Compared(
        _preview(parent, child, judged),
        _codes(parent, child, outcome.snapshot, parts),
        mean_distance(denormalise(judged)),
        None if blendshapes is None else _probed(parent, child, outcome.snapshot, parts, blendshapes),
    )


def checks_of(figures: Mapping[str, float | None], settings: GateSettings) -> list[Check]:
    """Return what the gate asked and found, as far as it came; nothing before there was a child."""
    rows = (
        ("loss, held out to judge", "loss", 1 - settings.gain, True),
        ("error of rebuilt faces", "rebuilt_error", 1 - settings.gain, True),
        ("distance between neutral faces", "neutral_distance", settings.neutral, True),
        ("directions that codes fill", "code_rank", settings.rank, False),
        ("spread of codes", "code_spread", settings.spread, False),
    )
    checks = []
    for what, key, factor, is_most in rows:
        before, after = figures.get(f"{key}_before"), figures.get(f"{key}_after")
        if before is None or after is None:
            continue
        bound = before * factor
        asked = f"{'≤' if is_most else '≥'} {bound:.4g}"
        checks.append(Check(what, before, after, asked, after <= bound if is_most else after >= bound))
    for what, before_key, key, least in (
        ("error that a face's own code takes away", "informed_before", "informed_after", settings.informed),
        ("neighbours kept beyond chance", "", "neighbours_kept", settings.neighbours),
    ):
        found = figures.get(key)
        if found is not None:
            checks.append(Check(what, figures.get(before_key), found, f"≥ {least:.4g}", found >= least))
    return checks


def most_different(codes: Codes, count: int) -> list[int]:
    """Choose rows that differ most: the one farthest from the mean, then always the farthest from those chosen."""
    away = np.linalg.norm(codes - codes.mean(0), axis=1)
    chosen: list[int] = []
    for _ in range(min(count, len(codes))):
        chosen.append(int(away.argmax()))
        distance = np.linalg.norm(codes - codes[chosen[-1]], axis=1)
        away = distance if len(chosen) == 1 else np.minimum(away, distance)
    return chosen


@torch.inference_mode()
def _encode(networks: Networks, images: Tensor) -> Codes:
    codes: Codes = torch.cat([networks.encoder(some) for some in torch.split(images, _AT_ONCE)]).float().numpy()
    return codes


def _preview(parent: Networks, child: Networks, images: Tensor) -> Preview:
    chosen = sorted(most_different(_encode(parent, images), SHOWN))
    shown = images[chosen]
    return Preview(_as_pictures(shown), _drawn(parent, shown), _drawn(child, shown))


@torch.inference_mode()
def _drawn(networks: Networks, images: Tensor) -> Drawn:
    """Draw faces; each is rebuilt from the neutral face of the one before it, and its own code."""
    cycle = draw_cycle(networks, torch.cat((images, images.roll(1, 0))))
    count = len(images)
    rebuilt = denormalise(cycle.rebuilt[:count])
    error = (rebuilt - denormalise(images)).abs().mean((1, 2, 3))
    return Drawn(
        _as_pictures(cycle.neutral[:count]),
        _as_pictures(cycle.direct_forward[:count]),
        _as_pictures(cycle.rebuilt[:count]),
        error.numpy(),
    )


def _codes(parent: Networks, child: Networks, snapshot: Snapshot, parts: Split) -> CodeMap:
    used = np.concatenate([parts.train, parts.choose, parts.judge])
    rows: Rows = used[np.linspace(0, len(used) - 1, min(len(used), MOST_CODES)).round().astype(np.int64)]
    some = snapshot.only(rows)
    images = some.images()
    return CodeMap(
        _encode(parent, images),
        _encode(child, images),
        some.t_capture - snapshot.t_capture[0],
        ~np.isin(rows, parts.train),
        _as_pictures(images),
    )


def _probed(
    parent: Networks, child: Networks, snapshot: Snapshot, parts: Split, blendshapes: Blendshapes
) -> Probed | None:
    """Probe on the faces that were not learned from; whether a unit is on is told by the median of all faces."""
    is_known = ~np.isnan(blendshapes).any(axis=1)
    held_out = np.concatenate([parts.choose, parts.judge])
    rows = held_out[is_known[held_out]]
    if not len(rows):
        return None
    labels = np.zeros((len(blendshapes), len(PROXY_NAMES)), np.bool_)
    labels[is_known] = proxy_labels(blendshapes[is_known])
    some = snapshot.only(rows)
    images = some.images()
    before, after = (
        within_person(_encode(networks, images), labels[rows], some.t_capture) for networks in (parent, child)
    )
    return Probed(len(rows), PROXY_NAMES, before, after)


def _as_pictures(images: Tensor) -> Pictures:
    """[k, 3, 64, 64] normalised -> [k, 64, 64, 3]; what cannot be seen is cut off."""
    pictures: Pictures = denormalise(images.float()).clamp(0, 1).permute(0, 2, 3, 1).contiguous().numpy()
    return pictures
