"""From a model to a bundle: float graph, precision, gate, folder. Nothing is written before the gate is passed.

    graph = model.build()            float32, held to fp32's limits whatever precision is asked for
    candidate = convert(...)         the precision asked for, held to its own limits
    make_bundle(...)                 encoder.onnx, check.npz, manifest.json

`fastest` makes every precision, and takes the fastest of those that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx

from psm_export.model import Crops, Model
from psm_export.parity import check as checking
from psm_export.parity.figures import measure_parity
from psm_export.parity.gate import (
    Held,
    Yardstick,
    blame,
    broken_limits,
    check_batches,
    embed,
    figures_of,
    hold,
    judge,
    layers_off,
    refuse,
)
from psm_export.precisions import CONVERTERS, Converted
from psm_export.timing import median_ms
from psm_export.write import describe, write_bundle
from psm_stream.bundle import Manifest, Parity, Precision
from psm_stream.errors import BundleError, ParityFailed

Tell: TypeAlias = Callable[[int, int, str], None]
"""Is told (steps done, steps, what is being done)."""
ORDER: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_WORTH = 0.9
"""A less exact form is taken when it needs at most this share of the time; less of a gain is noise."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An export that passed the gate. parity: with the layers that stay in float. check: content of check.npz."""

    precision: Precision
    graph: onnx.ModelProto
    parity: Parity
    check: bytes


@dataclass(frozen=True, slots=True)
class Tried:
    """A precision that `fastest` looked at. ms: median of one face on one thread. why_not: why it did not pass."""

    precision: Precision
    candidate: Candidate | None
    ms: float | None = None
    why_not: str = ""


def float_graph(to: Yardstick) -> onnx.ModelProto:
    """Write the float32 graph and hold it to the reference, and to what its author measured where that is known.

    Raises ParityFailed: it computes something else. BundleError: it cannot be written or run.
    """
    model, crops = to.model, to.crops
    graph = model.build()
    held = hold(to, graph, "fp32")
    if held.failures:
        raise refuse(model.about.name, "fp32", held, blame(model, graph, crops, is_rescaled=False))
    failures = layers_off(model, graph, crops) or check_batches(graph.SerializeToString(deterministic=True), crops)
    if failures:
        raise refuse(model.about.name, "fp32", Held(held.parity, tuple(failures)), "")
    _hold_to_author(model, graph)
    return graph


def convert(to: Yardstick, graph: onnx.ModelProto, precision: Precision, calibration: Crops, tell: Tell) -> Candidate:
    """Bring a float32 graph that was held to a precision, and hold that.

    Raises ParityFailed: it breaks the precision's limits. BundleError: it cannot be converted or run.
    """
    refused = ParityFailed(f"{to.model.about.name}: there is no {precision} form of it")
    for converted in CONVERTERS[precision](graph, calibration, tell):
        try:
            return held(to, converted, precision)
        except ParityFailed as error:
            refused = error  # another form may pass, with more in float
    raise refused


def held(to: Yardstick, converted: Converted, precision: Precision) -> Candidate:
    """Hold a converted graph, over the yardstick's crops and the bundle's own. Raises as `convert` does."""
    measured = hold(to, converted.graph, precision)
    check = checking.make_check(to.model, converted.graph)
    failures = measured.failures or _on_photograph(check, converted.graph, precision)
    if failures:
        blamed = blame(to.model, converted.graph, to.crops, is_rescaled=precision != "fp32")
        raise refuse(to.model.about.name, precision, Held(measured.parity, failures), blamed)
    parity = measured.parity.model_copy(update={"float_nodes": converted.float_nodes})
    return Candidate(precision, converted.graph, parity, checking.to_bytes(check))


def fastest(to: Yardstick, graph: onnx.ModelProto, calibration: Crops, tell: Tell) -> tuple[Candidate, Sequence[Tried]]:
    """Make every precision and return the fastest that passes the gate, and what became of each.

    Times are of one face on one thread of this machine's CPU, in turns. Raises ParityFailed: none passes.
    """
    tried = [_try(to, graph, precision, calibration, tell) for precision in ORDER]
    passed = [one.candidate for one in tried if one.candidate is not None]
    if not passed:
        reasons = "; ".join(f"{one.precision} {one.why_not}" for one in tried)
        raise ParityFailed(f"{to.model.about.name}: no precision passes, nothing was written: {reasons}")
    graphs = [one.graph.SerializeToString(deterministic=True) for one in passed]
    times = median_ms(graphs, to.model.pixels.size_px)
    ms = {candidate.precision: time for candidate, time in zip(passed, times, strict=True)}
    best = passed[0]
    for candidate in passed[1:]:  # each less exact than the one before it
        if ms[candidate.precision] < _WORTH * ms[best.precision]:
            best = candidate
    timed = [Tried(one.precision, one.candidate, ms.get(one.precision), one.why_not) for one in tried]
    return best, timed


def make_bundle(folder: Path, model: Model, candidate: Candidate, name: str, made_by: str = "psm-export") -> Manifest:
    """Write the bundle. Raises BundleError: there is one already, or the folder cannot be written."""
    about = describe(model, name, candidate.precision, made_by)
    return write_bundle(folder, candidate.graph, about, candidate.parity, candidate.check)


def _try(to: Yardstick, graph: onnx.ModelProto, precision: Precision, calibration: Crops, tell: Tell) -> Tried:
    try:
        return Tried(precision, convert(to, graph, precision, calibration, tell))
    except ParityFailed as error:
        return Tried(precision, None, why_not=f"does not pass: {error.reasons}")
    except BundleError as error:
        return Tried(precision, None, why_not=f"cannot be made: {error}")


def _on_photograph(check: checking.Check, graph: onnx.ModelProto, precision: Precision) -> tuple[str, ...]:
    """Which limits break over the crops that the bundle carries; they are too few for neighbours and clusters."""
    given, _ = embed(graph.SerializeToString(deterministic=True), check.crops)
    parity = measure_parity(check.embeddings, given, "the reference")
    failures = broken_limits(check.embeddings, given, figures_of(check.embeddings, given, parity, precision))
    return tuple(f"over the photograph's crops: {failure}" for failure in failures)


def _hold_to_author(model: Model, graph: onnx.ModelProto) -> None:
    """Hold the graph to embeddings that the model's author measured. Raises ParityFailed: it gives others."""
    if model.expected is None:
        return
    crops, embeddings = model.expected
    given, provider = embed(graph.SerializeToString(deterministic=True), crops)
    held = judge(embeddings, given, "fp32", ("embeddings in the manifest's check file", "its crops", provider))
    if held.failures:
        failures = (
            *held.failures,
            "is the manifest's colour, range, layout or normalisation another than the model's?",
        )
        raise refuse(model.about.name, "fp32", Held(held.parity, failures), "")
