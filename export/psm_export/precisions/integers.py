"""8-bit integers, and float where the measurement asks for it.

    ranges    smallest and largest value of each tensor over calibration crops, less a share that is chosen
    weights   rounded by what each layer reads (`rounding`)
    search    each layer alone in integers, in an otherwise float graph: what does it cost? Layers then go back to
              float, dearest per multiplication first, until the crops' embeddings are near enough or the budget is
              spent

Cost is counted from shapes, in multiplications and in weights that must be read, and never timed: the same graph and
crops give the same bytes on the same processor.

ONNX Runtime's own `quantize_static` is the peer that `benchmarks/export_precisions.py` runs beside this: it has the
ranges but not the rounding nor the search, and its files name its version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import shape_inference
from threadpoolctl import threadpool_limits

from psm_export.model import Crops
from psm_export.precisions import observe
from psm_export.precisions.converted import Converted, Tell
from psm_export.precisions.rounding import Moments, can_round, fit
from psm_export.quantise import Integers, Layer, Ranges, layers_of, nearest, quantise

_READING = 16
"""Multiplications that take as long as reading a weight from memory, as measured on FaceCycle's encoder, whose last
layers use each weight 16 times and its linear ones once (Xeon with AVX-512)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How far to go.

    enough: mean of 1 - cosine over the crops that are looked at, at which the search stops. budget: share of all
    layers' cost that may stay in float. least: share of the whole error that a layer must cause on its own to be
    worth its casts. shares: of each range that integers cover, tried in this order; what lies
    outside is clipped. looked_at: crops of the calibration that the search compares, evenly spaced.
    """

    enough: float = 2e-4
    budget: float = 0.17
    least: float = 0.02
    shares: tuple[float, ...] = (1.0, 0.9, 0.8)
    looked_at: int = 64


@dataclass(frozen=True, slots=True)
class _Trial:
    """A float graph, what it takes to bring it to integers, and what its result is compared by."""

    model: onnx.ModelProto
    ranges: Ranges
    integers: Mapping[str, Integers]
    crops: Crops
    wanted: NDArray[np.float32]

    def graph(self, float_layers: Collection[str], share: float) -> onnx.ModelProto:
        ranges = {name: (share * low, share * high) for name, (low, high) in self.ranges.items()}
        for end in self.model.graph.output:  # what leaves the graph is neither rounded nor clipped once more
            ranges.pop(end.name, None)
        return quantise(self.model, ranges, float_layers, self.integers)

    def error(self, float_layers: Collection[str], share: float) -> float:
        """Mean of 1 - cosine over the crops."""
        given = observe.embed(self.graph(float_layers, share), self.crops).astype(np.float64)
        lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(self.wanted, axis=1)
        return float(1 - ((given * self.wanted).sum(axis=1) / np.maximum(lengths, 1e-30)).mean())


MORE: tuple[Recipe, ...] = (
    Recipe(),
    Recipe(enough=0.0, budget=0.4, least=0.01),
    Recipe(enough=0.0, budget=0.7, least=0.0),
)
"""What is tried in turn, until something passes the gate: the first is what has been fast and near enough."""


def to_int8(model: onnx.ModelProto, calibration: Crops, tell: Tell, recipe: Recipe | None = None) -> Converted:
    """Write a float32 graph again in integers, with those layers in float that cost most.

    calibration: [N, S, S, 3] RGB, of faces like those to come; 100 and more of several people. A graph without a layer
    that can run in integers comes back as it is.
    """
    return next(attempts(model, calibration, tell, (recipe or Recipe(),)))


def attempts(
    model: onnx.ModelProto, calibration: Crops, tell: Tell, recipes: Sequence[Recipe] = MORE
) -> Iterator[Converted]:
    """As `to_int8`, by one recipe after the other; those that come to the same are given once.

    Ranges, rounding and what each layer costs are found out once, as the first recipe says.
    """
    recipe, layers = recipes[0], layers_of(model)
    if not layers:
        yield Converted(model)
        return
    names = [layer.name for layer in layers]
    steps = len(layers) + len(recipe.shares) + 1
    tell(0, steps, "int8: ranges, and weights rounded by what layers read")
    ranges, integers = _calibrate(model, layers, calibration)
    places = np.linspace(0, len(calibration) - 1, min(len(calibration), recipe.looked_at)).astype(int)
    crops = calibration[places]
    trial = _Trial(model, ranges, integers, crops, observe.embed(model, crops).astype(np.float64))
    errors = []
    for done, share in enumerate(recipe.shares, 1):
        tell(done, steps, "int8: how much of each range to cover")
        errors.append(trial.error((), share))
    share = recipe.shares[int(np.argmin(errors))]
    alone = {}
    for done, name in enumerate(names, len(recipe.shares) + 1):
        tell(done, steps, f"int8: what each of {len(names)} layers costs")
        alone[name] = trial.error([other for other in names if other != name], share)
    given: set[tuple[str, ...]] = set()
    for recipe in recipes:
        kept = _kept(trial, alone, costs(model), share, recipe)
        if kept not in given:
            given.add(kept)
            tell(steps, steps, f"int8: {len(kept)} of {len(names)} layers stay in float")
            yield Converted(trial.graph(kept, share), kept)


def costs(model: onnx.ModelProto) -> dict[str, int]:
    """What each layer costs in float: its multiplications, and what reading its weights takes the time of."""
    counts = multiplications(model)
    return {layer.name: counts[layer.name] + _READING * layer.weight.size for layer in layers_of(model)}


def multiplications(model: onnx.ModelProto) -> dict[str, int]:
    """Count the multiplications of each layer for one crop, from shapes."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output, *graph.input)
    }
    counts = {}
    for layer in layers_of(model):
        shape = shapes.get(layer.name, [])
        # places at which the weights are used: a map's height times width, or the rows between batch and features
        places = shape[2:] if layer.node.op_type == "Conv" else shape[1:-1]
        counts[layer.name] = layer.weight.size * int(np.prod([side or 1 for side in places]))
    return counts


def _calibrate(model: onnx.ModelProto, layers: list[Layer], crops: Crops) -> tuple[Ranges, dict[str, Integers]]:
    names = list(dict.fromkeys(name for layer in layers for name in (layer.reads, layer.gives)))
    low, high = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    moments = [Moments(layer) for layer in layers if can_round(layer)]
    for values in observe.tensors(model, names, crops):
        for name, value in values.items():
            low[name], high[name] = min(low[name], float(value.min())), max(high[name], float(value.max()))
        with threadpool_limits(1):
            for one in moments:
                one.add(values[one.layer.reads])
    integers = {layer.name: nearest(layer) for layer in layers}
    with threadpool_limits(1):  # sums over several threads are not the same each time
        integers |= {one.layer.name: fit(one) for one in moments}
    return {name: (low[name], high[name]) for name in names}, integers


def _kept(
    trial: _Trial, alone: Mapping[str, float], prices: Mapping[str, int], share: float, recipe: Recipe
) -> tuple[str, ...]:
    """Layers that stay in float, in the graph's order."""
    left = recipe.budget * sum(prices.values())
    kept: list[str] = []
    error = whole = trial.error(kept, share)
    for name in sorted(alone, key=lambda name: -alone[name] / prices[name]):
        if error <= recipe.enough:
            break
        if prices[name] <= left and alone[name] >= recipe.least * whole:
            kept.append(name)
            left -= prices[name]
            error = trial.error(kept, share)
    return tuple(name for name in alone if name in kept)
