"""From trained networks to what the live path takes: a checkpoint in half precision and the bundle of its encoder."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from psm_adapt.checkpoint import About, save_checkpoint
from psm_adapt.networks.design import Networks
from psm_export import facecycle
from psm_export.build import observed_ranges, shrunk
from psm_export.checkpoint import read_checkpoint
from psm_export.making import Candidate, float_graph, held, make_bundle
from psm_export.networks.facecycle import FACE_PX
from psm_export.parity.check import check_crops
from psm_export.parity.gate import Yardstick, yardstick
from psm_export.precisions import Converted
from psm_export.quantise import quantise
from psm_export.sources.facecycle_model import of_checkpoint
from psm_stream.adaptation.layout import BUNDLE, CHECKPOINT
from psm_stream.bundle import Parity
from psm_stream.errors import AdaptationError, ParityFailed

_STEPS = 4
_FEWEST = 10
_MOST = 48
"""Crops to calibrate with, and to measure with, evenly spaced: twice as many changed no figure by a tenth."""
_SHARES = (0.9, 0.8)
"""Of each range, that integers cover: finer steps are worth more than rare extremes. Over four people the mean cosine
was .9988 to .9997 with the first, .9990 to .9996 with the second, and .9984 to .9996 with whole ranges."""
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

    The same networks, crops and processor give the same files. Takes 3 to 6 s on one thread.

    Args:
        out: An existing folder or a new one, with neither of the two in it.
        networks: On any device; they stay as they are.
        about: What the checkpoint will say; its digests and model_id are filled in.
        crops: uint8 [N, S, S, 3] RGB of the person in order of time, at least 10, S at least 64. The first four fifths
            give the ranges of integers, the last fifth measures the parity.
        precision: Of the bundle. int8 that does not pass psm-export's gate becomes float32.
        name: Of the bundle, for people.
        parent: model_id of the bundle that training started from; None: what `about` says.
        tell: Is told (steps done, steps) as it goes.
        clock: s.

    Raises CheckpointError: a weight is not finite or does not fit float16. BundleError, CheckpointError: there is one
    already, or the disk refuses. ParityFailed: the float32 graph computes something else than the networks.
    AdaptationError: too few crops, or they are no crops.
    """
    start = clock()
    calibration, measured = _parts(crops)
    saved = save_checkpoint(out / CHECKPOINT, networks, about, "fp16")
    tell(1, _STEPS)
    model = of_checkpoint(read_checkpoint(out / CHECKPOINT))
    model = replace(model, about=replace(model.about, parent=parent or about.parent))
    to = yardstick(model, measured, f"{len(measured)} later faces than those that calibrated")
    graph = float_graph(to)
    tell(2, _STEPS)
    candidate = _candidate(to, graph, precision, calibration)
    tell(3, _STEPS)
    manifest = make_bundle(out / BUNDLE, model, candidate, name, "psm-adapt")
    tell(4, _STEPS)
    return Exported(out / BUNDLE, out / CHECKPOINT, manifest.model_id, saved.model_id, manifest.parity, clock() - start)


def _candidate(
    to: Yardstick, graph: onnx.ModelProto, precision: Literal["int8", "fp32"], calibration: Crops
) -> Candidate:
    """The model in integers, with as little in float as the gate lets pass; in float32 if nothing else does."""
    if precision == "int8":
        # with the crops that the bundle is checked by, which somebody's own ranges alone may not cover
        ranges = observed_ranges(graph, np.concatenate([calibration, check_crops(FACE_PX)]))
        for kept, share in product(facecycle.FLOAT_LAYERS, _SHARES):
            integers = quantise(graph, shrunk(ranges, share), kept)
            with suppress(ParityFailed):
                return held(to, Converted(integers, kept), "int8")
    return held(to, Converted(graph), "fp32")


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
