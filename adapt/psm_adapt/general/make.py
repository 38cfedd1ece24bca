"""Drawing synthetic clips into a crop store: pictures, then what the aligner and the teacher see in them. The first row
of each clip is its resting face.

The crops are cut by the live path's aligner, as those of real videos are, and the Face Landmarker gives blendshapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_adapt.data.columns import file_digest
from psm_adapt.data.store import STORE, CropStore, Making, open_store
from psm_adapt.data.writer import RecordedCrops, write_store
from psm_adapt.general.expressions import learn_expressions
from psm_adapt.general.synthesis import FPS, Synthesis
from psm_stream.align import template
from psm_stream.errors import StoreError
from psm_stream.values import AlignedFace, Faces, Frame, Image, Stamp

AT_ONCE = 8
"""Clips that one process makes before it starts anew from the store."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to make. clips: how many. seed: of everything drawn. landmarker: the Face Landmarker's model file.

    workers: processes; the result does not depend on them.
    """

    clips: int
    seed: int
    landmarker: Path
    workers: int = 1


def make_clips(real: Path, out: Path, order: Order, told: Callable[[int], None] | None = None) -> CropStore:
    """Draw clips into a store, one person and recording each. The same order gives the same store.

    real: store of real faces with blendshapes. told: called with the number of clips that are done.
    Raises StoreError: the real store will not do, no face was found in any clip, or `out` is a store already.
    Raises AlignError: the Face Landmarker's model is missing or foreign.
    """
    if (out / STORE).exists():
        raise StoreError(f"{out} is a crop store already; name another folder")
    learn_expressions(open_store(real))  # what is wrong with the store is said before processes start
    making = Making(landmarker=file_digest(order.landmarker))
    made: list[RecordedCrops] = []
    portions = [range(first, min(first + AT_ONCE, order.clips)) for first in range(0, order.clips, AT_ONCE)]
    with ProcessPoolExecutor(order.workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_portion, real, order, portion) for portion in portions]
        for job, portion in zip(jobs, portions, strict=True):
            made += job.result()
            if told is not None:
                told(portion.stop)
    return write_store(out, made, making)


def _portion(real: Path, order: Order, portion: range) -> list[RecordedCrops]:
    synthesis = Synthesis(open_store(real))
    clips = (_clip(synthesis, order, number) for number in portion)
    return [clip for clip in clips if clip is not None]


def _clip(synthesis: Synthesis, order: Order, number: int) -> RecordedCrops | None:
    pictures = synthesis.pictures(synthesis.clip(order.seed, number))
    rows = list(seen(pictures, order.landmarker))
    if not rows or rows[0]["frame_index"] != 0:
        return None  # without its resting face a clip cannot say what changes
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    name = f"made-{order.seed}-{number:05d}"
    return RecordedCrops(name=name, person=name, arrays=arrays, kind="made", aligner="facemesh", fps=FPS)


def seen(pictures: Iterator[Image], landmarker: Path) -> Iterator[dict[str, NDArray[Any]]]:
    """Give, for each picture in which both aligners find the face, the columns of a crop store's row."""
    from psm_stream.align import open_aligner
    from psm_stream.config import AlignerSettings

    aligner, teacher = open_aligner(AlignerSettings()), open_aligner(AlignerSettings(model=landmarker))
    try:
        for number, picture in enumerate(pictures):
            frame = Frame(Stamp(number, number / FPS), picture)
            face, taught = aligner(frame), teacher(frame)
            if isinstance(face, Faces) and isinstance(taught, Faces):
                yield _row(number, face.faces[0], taught.faces[0])
    finally:
        aligner.close()
        teacher.close()


def _row(number: int, face: AlignedFace, taught: AlignedFace) -> dict[str, NDArray[Any]]:
    assert taught.blendshapes is not None
    return {
        "crops": face.crop,
        "t": np.float64(number / FPS),  # type: ignore[dict-item]
        "frame_index": np.int64(number),  # type: ignore[dict-item]
        "landmarks": template.to_crop_px(face.landmarks, face.to_crop),
        "confidence": np.float32(face.confidence),  # type: ignore[dict-item]
        "blendshapes": taught.blendshapes,
    }
