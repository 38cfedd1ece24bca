"""The published encoders: how a file of each is recognised, what each takes, and what is known of its making.

Nothing here needs torch; `published` reads the files, `networks` has the networks.

Where the eyes lie: FaceCycle and PSM give no margins, so ours hold (`psm_stream.align.template`). The others were
trained on VoxCeleb's own face crops, and nobody published where the eyes lie in those. Estimate: their pipeline widens
a detector's box sideways and downwards and not upwards, which puts the eye line near 0.30 of the height with the eyes
0.26 of the width apart; FAb-Net's crop, whose middle lies at 0.40 of the height, is then centred on the nose, which
speaks for it. Each system cuts its part out of that, at 256 px:

- FAb-Net ("voxceleb-tight-1"): padded left 20, top 80, right 20, bottom 30, then the middle 170: columns 43..213, rows
  18..188. Eyes: 0.26 * 256 / 170 = 0.39 apart, at (0.30 * 256 - 18) / 170 = 0.35.
- Temporal consistency and TCAE ("voxceleb-wide-1"): padded 24, then the middle 224: 16..240 in both. Eyes: 0.26 * 256 /
  224 = 0.30 apart, at (0.30 * 256 - 16) / 224 = 0.27.

Whoever knows better says so: psm-export takes --eye-distance and --eye-line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psm_export.model import IMAGENET_DEVIATION, IMAGENET_MEAN, Pixels
from psm_stream.align import template
from psm_stream.bundle import Alignment

Name = str
"""A key of `ARCHITECTURES`, and what a bundle's manifest calls the architecture."""

TIGHT = Alignment(template="voxceleb-tight-1", crop_px=256, eye_distance=0.39, eye_line_y=0.35)
WIDE = Alignment(template="voxceleb-wide-1", crop_px=256, eye_distance=0.30, eye_line_y=0.27)
OURS = Alignment(template=template.NAME, crop_px=128)
_ESTIMATED = "where the eyes lie in its crops is an estimate"


@dataclass(frozen=True, slots=True)
class Architecture:
    """One published encoder.

    marks: three keys of its state dict, two of which no other's has.
    training_data, note: what is known of the released weights; a file of the same layout may hold others.
    """

    marks: tuple[str, ...]
    pixels: Pixels
    alignment: Alignment
    training_data: tuple[str, ...]
    note: str


ARCHITECTURES: Mapping[Name, Architecture] = {
    "facecycle-expression-encoder": Architecture(
        marks=("conv1.0.weight", "layer2_1.2.theta.weight", "expresscode.2.weight"),
        pixels=Pixels(64, "RGB", IMAGENET_MEAN, IMAGENET_DEVIATION),
        alignment=OURS,
        training_data=(
            "FaceCycle's own file: VoxCeleb1 frames, VoxCeleb2's as an option, under VoxCeleb's terms",
            "PSM's files: DISFA, under its licence agreement",
        ),
        note="layout of FaceCycle and PSM: FaceCycle's repository is likely MIT, PSM's states no licence",
    ),
    "temporal-consistency-resnet18": Architecture(
        marks=("resnet18.0.weight", "resnet18.7.1.conv2.weight", "fc1.weight"),
        pixels=Pixels(256, "RGB", IMAGENET_MEAN, IMAGENET_DEVIATION),
        alignment=WIDE,
        training_data=("VoxCeleb2, under its terms; the start was ImageNet's weights",),
        note=f"layout of temporal consistency, whose repository states no licence; {_ESTIMATED}",
    ),
    "fab-net-encoder": Architecture(
        marks=("encoder.0.weight", "encoder.3.running_mean", "encoder.20.weight"),
        pixels=Pixels(256),
        alignment=TIGHT,
        training_data=("VoxCeleb1 and VoxCeleb2, under their terms",),
        note=f"layout of FAb-Net, whose repository is MIT; {_ESTIMATED}",
    ),
    "tcae-expression-encoder": Architecture(
        marks=("encoder.conv1.weight", "encoder.conv6_1.weight", "encoder.conv8_1.weight"),
        pixels=Pixels(256),
        alignment=WIDE,
        training_data=("VoxCeleb1 and VoxCeleb2, under their terms",),
        note=f"layout of TCAE, whose repository states no licence; the branch of the expression; {_ESTIMATED}",
    ),
}
