"""The gate: an export is handed over only if it computes what its weights do. docs/export.md has the table of limits.

`hold` runs a graph where it is to run and measures it against the model's float32 reference; `judge` says which limits
the figures break. What fails is named: the input that comes out worst, and the layer at which the graph departs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from psm_export.model import Crops, Model
from psm_export.parity.figures import Vectors, clusters_kept, cosines, measure_parity, spread
from psm_export.parity.tracing import Layers, layer_values
from psm_stream.bundle import Parity, Precision
from psm_stream.devices import CPU, Device, open_session
from psm_stream.errors import BundleError, ParityFailed
from psm_stream.redact import printable

AT_ONCE = 8
"""Crops in one call."""
_COMPARED = 4
"""Crops over which layers are compared."""
LAYER_LIMIT = 1e-4
"""What a layer of a float32 graph may be off by, root mean square, as a share of its values: a weight that little
depends on must be right, too. Kernels differ by 1e-6."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a precision may cost.

    largest, mean: difference of a value, largest and mean, in spreads (`figures.spread`: how embeddings differ from
    face to face). cosine, cosine_mean: smallest and mean similarity. neighbours, clusters: shares kept.
    """

    largest: float
    mean: float
    cosine: float
    cosine_mean: float
    neighbours: float
    clusters: float


LIMITS: Mapping[Precision, Limits] = {
    "fp32": Limits(largest=0.002, mean=0.0002, cosine=0.9999, cosine_mean=0.99999, neighbours=0.999, clusters=0.99),
    "fp16": Limits(largest=0.5, mean=0.05, cosine=0.999, cosine_mean=0.9999, neighbours=0.99, clusters=0.98),
    "int8": Limits(largest=1.5, mean=0.1, cosine=0.99, cosine_mean=0.998, neighbours=0.8, clusters=0.9),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure and its limit. value: None where there were too few crops. is_most: it may be so much at most."""

    name: str
    value: float | None
    limit: float
    is_most: bool

    @property
    def breaks(self) -> bool:
        """Whether the limit is broken."""
        return self.value is not None and (self.value > self.limit if self.is_most else self.value < self.limit)

    @property
    def bound(self) -> str:
        """The limit, in words."""
        return f"at most {self.limit:g} spreads" if self.is_most else f"at least {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Held:
    """What was measured. failures: limits that were broken, in words; none: it passed."""

    parity: Parity
    failures: tuple[str, ...]
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What exports of a model are held to. crops: [N, S, S, 3] RGB of the encoder's size. of: what they are of.

    embeddings: [N, D], the reference's of these crops.
    """

    model: Model
    crops: Crops
    of: str
    embeddings: NDArray[np.float32]


def yardstick(model: Model, crops: Crops, of: str) -> Yardstick:
    """Run a model's reference over crops, once for all that is held to it."""
    return Yardstick(model, crops, of, model.reference.encode(crops))


def hold(to: Yardstick, graph: onnx.ModelProto, precision: Precision) -> Held:
    """Measure a graph on the CPU against the model's reference. Raises BundleError: ONNX Runtime refuses the graph."""
    given, provider = embed(graph.SerializeToString(deterministic=True), to.crops)
    return judge(to.embeddings, given, precision, (to.model.reference.described, to.of, provider))


def judge(reference: Vectors, given: Vectors, precision: Precision, words: tuple[str, str, str]) -> Held:
    """Judge embeddings [N, D] by the reference's [N, D]. words: the reference, the crops, the provider."""
    against, of, provider = words
    if reference.shape != given.shape:
        failure = f"it gives {list(given.shape)} values, the reference {list(reference.shape)}"
        return Held(Parity(reference=against, crops=0, max_abs=0, mean_abs=0, cosine=0, tolerance=0), (failure,))
    if not np.isfinite(given).all():
        broken = int((~np.isfinite(given)).any(axis=1).argmax())
        failure = f"crop {broken} gives numbers that are not finite"
        return Held(Parity(reference=against, crops=0, max_abs=0, mean_abs=0, cosine=0, tolerance=0), (failure,))
    parity = measure_parity(reference, given, against, of)
    parity = parity.model_copy(update={"clusters_kept": clusters_kept(reference, given), "provider": provider})
    figures = figures_of(reference, given, parity, precision)
    return Held(parity, broken_limits(reference, given, figures), figures)


def figures_of(reference: Vectors, given: Vectors, parity: Parity, precision: Precision) -> tuple[Figure, ...]:
    """Bring what was measured together with the limits of a precision."""
    limits, unit = LIMITS[precision], spread(reference) or 1.0
    difference, cosine = np.abs(reference - given), cosines(reference, given)
    return (
        Figure("largest difference", float(difference.max()) / unit, limits.largest, True),
        Figure("mean difference", float(difference.mean()) / unit, limits.mean, True),
        Figure("smallest cosine", float(cosine.min()), limits.cosine, False),
        Figure("mean cosine", float(cosine.mean()), limits.cosine_mean, False),
        Figure("neighbours kept", parity.neighbours_kept, limits.neighbours, False),
        Figure("clusters kept", parity.clusters_kept, limits.clusters, False),
    )


def broken_limits(reference: Vectors, given: Vectors, figures: Sequence[Figure]) -> tuple[str, ...]:
    """Say which limits the figures break, and the worst input; nothing when all hold."""
    broken = [f"{one.name} {one.value:.6g} ({one.bound})" for one in figures if one.breaks]
    if not broken:
        return ()
    worst = int(np.abs(reference - given).max(axis=1).argmax())
    cosine = float(cosines(reference, given)[worst])
    return (*broken, f"worst input: crop {worst} of {len(reference)}, cosine {cosine:.5f}")


def refuse(name: str, precision: str, held: Held, blamed: str) -> ParityFailed:
    """Return the error that says why an export is not handed over. blamed: the worst node, in words, or ""."""
    reasons = "; ".join(filter(None, (*held.failures, blamed)))
    message = f"{name}, {precision}: it does not compute what its weights do, nothing was written: {reasons}"
    if precision != "fp32":
        message += "; --precision auto takes the fastest that passes, and --crops faces that differ more may show less"
    return ParityFailed(message, reasons)


def blame(model: Model, graph: onnx.ModelProto, crops: Crops, *, is_rescaled: bool) -> str:
    """Name the layer at which a graph departs from the reference; "" where no layer can be compared.

    is_rescaled: the graph may carry a channel at another scale than the reference (int8 models do), so that only what
    no factor per channel explains counts.
    """
    wanted, found = _both(model, graph, crops)
    return worst_layer(wanted, found, is_rescaled=is_rescaled)


def layers_off(model: Model, graph: onnx.ModelProto, crops: Crops) -> tuple[str, ...]:
    """Say which layer of a float32 graph departs from the reference; nothing when none does."""
    wanted, found = _both(model, graph, crops)
    if all(departure(value, found[name], False) <= LAYER_LIMIT for name, value in wanted.items()):
        return ()
    return (worst_layer(wanted, found, is_rescaled=False),)


def worst_layer(wanted: Layers, found: Layers, *, is_rescaled: bool) -> str:
    """Name the layer whose error grows most over the layer before it. wanted: first layer first; found: by name."""
    if not wanted:
        return ""
    errors = [departure(value, found[name], is_rescaled) for name, value in wanted.items()]
    growth = np.diff(np.minimum(errors, 1e9), prepend=0.0)  # the first of several that are beyond all measure
    at = int(growth.argmax())
    name = printable(list(wanted)[at])
    if errors[at] < LAYER_LIMIT:
        return "no layer departs by itself: what its rounding leaves adds up"
    if at == 0:
        why = (
            "" if is_rescaled else " (its weights, or the colour order, range or normalisation of the pixels before it)"
        )
        return f"worst node: {name}, the first that can be compared, is off by {errors[0]:.2%} already{why}"
    return f"worst node: {name}, off by {errors[at]:.2%}, the one before it by {errors[at - 1]:.2%}"


def _both(model: Model, graph: onnx.ModelProto, crops: Crops) -> tuple[Layers, Layers]:
    """What the reference's layers and the graph's give, of those that both have."""
    some = crops[np.linspace(0, len(crops) - 1, min(_COMPARED, len(crops))).astype(int)]
    wanted = model.reference.trace(some)
    found = layer_values(graph, list(wanted), some)
    return {name: value for name, value in wanted.items() if name in found}, found


def embed(graph: bytes, crops: Crops, device: Device = "cpu", threads: int = 1) -> tuple[NDArray[np.float32], str]:
    """Run a model over crops [N, S, S, 3]. Returns embeddings [N, D] and the provider that ran.

    Raises BundleError: ONNX Runtime refuses the model, or it cannot take several crops at once. DeviceError: the device
    is not there.
    """
    session = open_session(graph, device, threads).session
    chunks = [crops[start : start + AT_ONCE] for start in range(0, len(crops), AT_ONCE)]
    return np.concatenate([_run(session, chunk) for chunk in chunks]), str(session.get_providers()[0] or CPU)


def check_batches(graph: bytes, crops: Crops) -> Sequence[str]:
    """Return what is wrong with batches: each crop must give what it gives alone, whatever is beside it."""
    session = open_session(graph, "cpu", 1).session
    alone = np.concatenate([_run(session, crops[at : at + 1]) for at in range(3)])
    together = _run(session, crops[:3])
    if alone.shape == together.shape and np.abs(alone - together).max() <= 1e-3 * (np.abs(alone).max() or 1.0):
        return ()
    return ("three crops at once give something else than one after the other",)


def _run(session: Any, crops: Crops) -> NDArray[np.float32]:
    try:
        given: NDArray[np.float32] = session.run(["embedding"], {"crops": crops})[0]
    except Exception as error:  # ONNX Runtime's exceptions share no base
        message = " ".join(str(error).split())[:200]
        raise BundleError(f"the graph fails on {len(crops)} crops at once: {message}") from error
    return given


def departure(wanted: NDArray[np.float32], found: NDArray[np.float32], is_rescaled: bool = False) -> float:
    """Root mean square of the difference, as a share of the wanted values' own; inf where shapes differ."""
    if wanted.shape != found.shape:
        return np.inf
    one, other = wanted.astype(np.float64), found.astype(np.float64)
    overflown = ~np.isfinite(one) & (one == other)  # where the reference overflows, the graph must, too
    one, other = np.where(overflown, 0.0, one), np.where(overflown, 0.0, other)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return np.inf
    if is_rescaled and one.ndim > 1:
        channels = tuple(axis for axis in range(one.ndim) if axis != 1)
        size = (other**2).sum(axis=channels, keepdims=True)
        other = other * ((one * other).sum(axis=channels, keepdims=True) / np.where(size, size, 1.0))
    return float(np.sqrt(((one - other) ** 2).mean()) / (np.sqrt((one**2).mean()) or 1.0))
