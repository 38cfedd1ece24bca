"""How fast bundles run here: by provider, precision, batch and threads, next to PyTorch as it is written (eager).

Everything of one batch size and thread count takes turns, so that a busy machine disturbs all alike. What ran is what
ONNX Runtime reports, not what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from psm_export.model import Crops, Model
from psm_export.timing import in_turns
from psm_stream.bundle import ENCODER, EncoderBundle
from psm_stream.devices import Device, Use, open_session
from psm_stream.encoder import open_encoder
from psm_stream.engines import EngineSpec
from psm_stream.errors import BundleError, DeviceError

EAGER = "torch eager"
LIVE = "live path"
"""`Encoder.encode`, one face: scaling the crop, checks and copies included."""


@dataclass(frozen=True, slots=True)
class Row:
    """Times of one call. batch: faces in it. provider: what ran. Percentiles in ms; faces_per_s from the median."""

    name: str
    precision: str
    provider: str
    threads: int
    batch: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    min_ms: float
    faces_per_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to time. devices: as for psm-stream, without auto. rounds: turns of each."""

    devices: Sequence[Device]
    batches: Sequence[int]
    threads: Sequence[int]
    rounds: int = 10
    calls_each: int = 10


@dataclass(frozen=True, slots=True)
class _Timed:
    name: str
    precision: str
    provider: str
    call: Callable[[], object]


def bench(
    bundles: Sequence[EncoderBundle], eager: Model | None, plan: Plan, tell: Callable[[int, int, str], None]
) -> tuple[list[Row], list[str]]:
    """Time bundles that take one input size. eager: the model that PyTorch runs beside them.

    Returns the rows, and what was not measured and why. Raises BundleError: a bundle cannot run at all. DeviceError:
    the only device that was asked for is not there.
    """
    rows: list[Row] = []
    missing: dict[str, None] = {}
    grid = [(threads, batch) for threads in plan.threads for batch in plan.batches]
    for threads, batch in grid:
        timed = _candidates(bundles, eager, plan, threads, batch, missing)

        def told(turn: int, rounds: int, what: str = f"{threads} threads, batches of {batch}") -> None:
            tell(turn, rounds, what)

        calls_each = max(1, plan.calls_each // batch)
        taken = in_turns([one.call for one in timed], plan.rounds, calls_each, told)
        rows += [_row(one, threads, batch, seconds) for one, seconds in zip(timed, taken, strict=True)]
    return rows, list(missing)


def _candidates(
    bundles: Sequence[EncoderBundle],
    eager: Model | None,
    plan: Plan,
    threads: int,
    batch: int,
    missing: dict[str, None],
) -> list[_Timed]:
    timed: list[_Timed] = []
    for bundle in bundles:
        for device in plan.devices:
            try:
                timed += _of_bundle(bundle, device, threads, batch)
            except DeviceError as error:
                if len(plan.devices) == 1:  # it was asked for
                    raise
                missing[str(error)] = None
    if eager is not None:
        call = _eager(eager, threads, batch)
        if call is None:
            missing[f"{EAGER}: {eager.about.name} has no PyTorch form"] = None
        else:
            timed.append(_Timed(EAGER, "fp32", "PyTorch, CPU", call))
    return timed


def _of_bundle(bundle: EncoderBundle, device: Device, threads: int, batch: int) -> list[_Timed]:
    manifest = bundle.manifest
    crops = _crops(manifest.input.size_px, batch)
    if batch == 1:
        encoder = open_encoder(bundle, device, threads)
        side = max(manifest.alignment.crop_px, manifest.input.size_px)
        crop = cv2.resize(crops[0], (side, side), interpolation=cv2.INTER_LINEAR)
        name = f"{_name(bundle.folder)}, {LIVE}"
        live = _Timed(name, manifest.precision, encoder.provider, lambda: encoder.encode(crop))
    use = Use(EngineSpec(manifest.precision, manifest.input.size_px))
    session = open_session(bundle.read(ENCODER), device, threads, use).session
    provider = session.get_providers()[0]
    bare = _Timed(_name(bundle.folder), manifest.precision, provider, lambda: session.run(None, {"crops": crops}))
    try:
        bare.call()
    except Exception as error:  # ONNX Runtime's exceptions share no base
        message = " ".join(str(error).split())[:200]
        raise BundleError(f"encoder bundle {bundle.folder} cannot take {batch} faces at once: {message}") from error
    return [live, bare] if batch == 1 else [bare]


def _eager(model: Model, threads: int, batch: int) -> Callable[[], object] | None:
    import torch

    run = model.reference.eager()
    if run is None:
        return None
    crops = _crops(model.pixels.size_px, batch)

    def call() -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return run(crops)

    return call


def _row(one: _Timed, threads: int, batch: int, seconds: np.ndarray) -> Row:  # type: ignore[type-arg]
    p50, p95, p99 = (round(1e3 * float(np.percentile(seconds, q)), 3) for q in (50, 95, 99))
    rate = round(1e3 * batch / p50, 1)
    least = round(1e3 * float(seconds.min()), 3)
    return Row(one.name, one.precision, one.provider, threads, batch, p50, p95, p99, least, rate)


def _crops(size_px: int, batch: int) -> Crops:
    return np.random.default_rng(0).integers(0, 256, (batch, size_px, size_px, 3), dtype=np.uint8)


def _name(folder: Path) -> str:
    return folder.resolve().name
