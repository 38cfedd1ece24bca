"""From trained networks to what the live path takes: a checkpoint in half precision and the bundle of its encoder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from psm_adapt.checkpoint import About, save_checkpoint
from psm_adapt.data.augment import plain
from psm_adapt.networks.design import Networks
from psm_export import facecycle
from psm_export.build import observed_ranges, run
from psm_export.checkpoint import read_checkpoint
from psm_export.networks.facecycle import FACE_PX, Encoder
from psm_export.parity.figures import measure_parity
from psm_export.quantise import quantise
from psm_export.write import describe, write_bundle
from psm_stream.adaptation.layout import BUNDLE, CHECKPOINT
from psm_stream.bundle import Parity
from psm_stream.errors import AdaptationError

_STEPS = 4
_AT_ONCE = 12
_FEWEST = 10
_MOST = 48
"""Crops to calibrate with, and to measure with, evenly spaced: twice as many changed no figure by a tenth."""
_MEASURED = 0.2
"""Share of the crops, the last in time, that calibration never sees."""

Crops = NDArray[np.uint8]


def _unheard(done: int, steps: int) -> None:
    """Hear how far the export is, and tell nobody."""
    del done, steps


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. model_id: the bundle's. checkpoint_id: the checkpoint's. parity: the bundle's against it."""

    bundle: Path
    checkpoint: Path
    model_id: str
    checkpoint_id: str
    parity: Parity
    seconds: float


def export_model(
    out: Path,
    networks: Networks,
    about: About,
    crops: Crops,
    *,
    precision: Literal["int8", "fp32"],
    name: str,
    parent: str | None = None,
    tell: Callable[[int, int], None] = _unheard,
    clock: Callable[[], float] = time.monotonic,
) -> Exported:
    """Write `out/checkpoint` (float16) and `out/bundle`, made of the very weights that the checkpoint stores.

    The same networks, crops and processor give the same files. Takes 1.5 s on one thread.

    Args:
        out: An existing folder or a new one, with neither of the two in it.
        networks: On any device; they stay as they are.
        about: What the checkpoint will say; its digests and model_id are filled in.
        crops: uint8 [N, S, S, 3] RGB of the person in order of time, at least 10, S at least 64. The first four fifths
            give the ranges of integers, the last fifth measures the parity.
        precision: Of the bundle.
        name: Of the bundle, for people.
        parent: model_id of the bundle that training started from; None: what `about` says.
        tell: Is told (steps done, steps) as it goes.
        clock: s.

    Raises CheckpointError: a weight is not finite or does not fit float16. BundleError, CheckpointError: there is one
    already, or the disk refuses. AdaptationError: too few crops, or they are no crops.
    """
    start = clock()
    calibration, measured = _parts(crops)
    checkpoint = out / CHECKPOINT
    saved = save_checkpoint(checkpoint, networks, about, "fp16")
    tell(1, _STEPS)
    stored = read_checkpoint(checkpoint)
    model = facecycle.build_model(stored.weights)
    if precision == "int8":
        ranges = observed_ranges(model, calibration)
        model = quantise(model, ranges, facecycle.FLOAT_LAYERS)
    tell(2, _STEPS)
    wanted = _codes(stored.weights, measured)
    against = "the same weights in PyTorch, float32, over later faces than those that calibrated"
    parity = measure_parity(wanted, run(model, measured), against)
    tell(3, _STEPS)
    description = describe(stored, name, precision, "psm-adapt")
    description = dataclasses.replace(description, parent=parent or description.parent)
    manifest = write_bundle(out / BUNDLE, model, description, parity)
    tell(4, _STEPS)
    return Exported(out / BUNDLE, checkpoint, manifest.model_id, saved.model_id, parity, clock() - start)


def _parts(crops: Crops) -> tuple[Crops, Crops]:
    """Crops to calibrate and to measure with, at the encoder's size: early ones and late ones."""
    if crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3 or crops.dtype != np.uint8:
        raise AdaptationError(f"crops are {crops.dtype} {list(crops.shape)}, expected uint8 [N, S, S, 3]")
    if len(crops) < _FEWEST or crops.shape[1] < FACE_PX:
        raise AdaptationError(
            f"{len(crops)} crops of {crops.shape[1]} px cannot calibrate an encoder; give {_FEWEST} or more of "
            f"{FACE_PX} px or more"
        )
    seam = len(crops) - round(_MEASURED * len(crops))
    return _spread(crops[:seam]), _spread(crops[seam:])


def _spread(crops: Crops) -> Crops:
    """Take at most `_MOST`, evenly spaced, and bring them to the encoder's size as the live path does."""
    some: Crops = crops[np.linspace(0, len(crops) - 1, min(len(crops), _MOST)).astype(int)]
    if crops.shape[1] == FACE_PX:
        return some
    return np.stack([cv2.resize(crop, (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA) for crop in some])


@torch.inference_mode()
def _codes(weights: facecycle.Weights, crops: Crops) -> NDArray[np.float64]:
    """Encode crops [N, 64, 64, 3] in torch, which shares nothing with the graph but the weights. Returns [N, 256]."""
    with torch.random.fork_rng(devices=[]):
        encoder = Encoder()
    encoder.load_state_dict({key: torch.from_numpy(tensor) for key, tensor in weights.items()})
    codes: list[NDArray[np.float64]] = []
    for start in range(0, len(crops), _AT_ONCE):
        codes.append(encoder(plain(torch.from_numpy(crops[start : start + _AT_ONCE]))).double().numpy())
    return np.concatenate(codes)
