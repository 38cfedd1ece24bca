"""Several encoders as one: embeddings side by side, in the order given, from the same crop.

Where sizes differ, the graph takes the largest and scales down inside, as the live path scales a crop to a smaller
encoder (OpenCV's INTER_AREA, to whole grey levels): by whole factors alone, where that is the plain mean.

Source of the use: Lu, Tavabi, Soleymani, BMVC 2020, whose ensemble joins the three networks trained at spacings 1, 2
and 4 (768 numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import JsonValue

from psm_export.graph import close
from psm_export.graphs.graph_editing import EMBEDDING, rename
from psm_export.graphs.pixel_part import CROPS
from psm_export.model import About, Crops, Model, Pixels
from psm_stream.bundle import Alignment
from psm_stream.errors import ConfigError

ARCHITECTURE = "ensemble"


def ensemble(parts: Sequence[Model]) -> Model:
    """Join models. parts: at least two, which want the same alignment.

    Raises ConfigError: their alignments differ, or a size is no whole part of the largest.
    """
    size_px = max(part.pixels.size_px for part in parts)
    _check(parts, size_px)
    first = parts[0]
    return Model(
        about=_about(parts),
        pixels=_pixels(parts, size_px),
        alignment=_alignment(parts, size_px),
        dimension=sum(part.dimension for part in parts),
        reference=_Together(parts),
        build=lambda: _joined([part.build() for part in parts], parts, size_px),
        expected=None if len(parts) > 1 else first.expected,
    )


def scaled(crops: Crops, size_px: int) -> Crops:
    """Scale crops [N, S, S, 3] down to a whole part of their size, as the live path does."""
    if crops.shape[1] == size_px:
        return crops
    smaller: Crops = np.stack([cv2.resize(crop, (size_px, size_px), interpolation=cv2.INTER_AREA) for crop in crops])
    return smaller


@dataclass(frozen=True, slots=True)
class _Together:
    """The parts' references, one after the other."""

    parts: Sequence[Model]

    @property
    def described(self) -> str:
        """What each is."""
        return "; ".join(dict.fromkeys(part.reference.described for part in self.parts))

    def encode(self, crops: Crops) -> NDArray[np.float32]:
        """Encode crops [N, S, S, 3]. Returns [N, D], the parts' numbers side by side."""
        each = [part.reference.encode(scaled(crops, part.pixels.size_px)) for part in self.parts]
        return np.concatenate(each, axis=1)

    def trace(self, crops: Crops) -> Mapping[str, NDArray[np.float32]]:
        """Return what every part's layers give, with the part's number before their names."""
        kept: dict[str, NDArray[np.float32]] = {}
        for number, part in enumerate(self.parts, start=1):
            values = part.reference.trace(scaled(crops, part.pixels.size_px))
            kept |= {_named(number, name): value for name, value in values.items()}
        return kept

    def eager(self) -> Callable[[Crops], object] | None:
        """Return all parts' runs in turn; None where one has none."""
        runs = [(part.reference.eager(), part.pixels.size_px) for part in self.parts]
        known = [(run, size_px) for run, size_px in runs if run is not None]
        if len(known) < len(runs):
            return None
        return lambda crops: [run(scaled(crops, size_px)) for run, size_px in known]


def _named(number: int, name: str) -> str:
    return f"{number}/{name}"


def _check(parts: Sequence[Model], size_px: int) -> None:
    first = parts[0].alignment
    for number, part in enumerate(parts, start=1):
        given = part.alignment
        if (given.eye_distance, given.eye_line_y) != (first.eye_distance, first.eye_line_y):
            raise ConfigError(
                f"part {number} of the ensemble ({part.about.name}) wants the eyes {given.eye_distance:g} apart at "
                f"{given.eye_line_y:g}, part 1 ({parts[0].about.name}) {first.eye_distance:g} apart at "
                f"{first.eye_line_y:g}; one crop cannot serve both: make a bundle of each"
            )
        if size_px % part.pixels.size_px:
            raise ConfigError(
                f"part {number} of the ensemble ({part.about.name}) takes {part.pixels.size_px} px, of which "
                f"{size_px} px is no whole multiple; make a bundle of each"
            )


def _alignment(parts: Sequence[Model], size_px: int) -> Alignment:
    crop_px = max(size_px, *(part.alignment.crop_px for part in parts))
    return parts[0].alignment.model_copy(update={"crop_px": crop_px})


def _pixels(parts: Sequence[Model], size_px: int) -> Pixels:
    """The first part's way with pixels, at the ensemble's size; each part has its own inside."""
    first = parts[0].pixels
    return Pixels(size_px, first.colour, first.mean, first.deviation)


def _about(parts: Sequence[Model]) -> About:
    said = [part.about for part in parts]
    made: list[JsonValue] = [dict(about.made_from) for about in said]
    return About(
        name="+".join(about.name for about in said),
        architecture=f"{ARCHITECTURE}: {', '.join(about.architecture for about in said)}",
        licence="; ".join(dict.fromkeys(about.licence for about in said)),
        training_data=tuple(dict.fromkeys(line for about in said for line in about.training_data)),
        note="; ".join(dict.fromkeys(about.note for about in said if about.note)),
        trained=all(about.trained for about in said),
        made_from={"kind": "ensemble", "parts": made},
    )


def _joined(graphs: Sequence[onnx.ModelProto], parts: Sequence[Model], size_px: int) -> onnx.ModelProto:
    """Put graphs side by side over one input. Each one's names get its number before them."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for number, (graph, part) in enumerate(zip(graphs, parts, strict=True), start=1):
        own = onnx.GraphProto()
        own.CopyFrom(graph.graph)
        names = {name for node in own.node for name in (*node.input, *node.output) if name}
        names |= {tensor.name for tensor in own.initializer}
        factor = size_px // part.pixels.size_px
        if factor > 1:
            nodes += _smaller(_named(number, CROPS), factor)
            constants += _smaller_constants(_named(number, CROPS), factor)
        own_crops = CROPS if factor == 1 else _named(number, CROPS)
        rename(own, {**{name: _named(number, name) for name in names}, CROPS: own_crops})
        for node in own.node:
            node.name = _named(number, node.name)
        nodes += own.node
        constants += own.initializer
    embeddings = [_named(number, EMBEDDING) for number in range(1, len(parts) + 1)]
    nodes.append(helper.make_node("Concat", embeddings, [EMBEDDING], name=EMBEDDING, axis=1))
    crops = helper.make_tensor_value_info(CROPS, TensorProto.UINT8, ["N", size_px, size_px, 3])
    dimension = sum(part.dimension for part in parts)
    embedding = helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["N", dimension])
    return close(helper.make_graph(nodes, ARCHITECTURE, [crops], [embedding], constants))


def _smaller(name: str, factor: int) -> list[onnx.NodeProto]:
    """Nodes that give `name`, uint8 crops smaller by a whole factor.

    OpenCV rounds halves up where the factor is 2, and to even elsewhere.
    """
    pool: dict[str, object] = {"kernel_shape": [factor, factor], "strides": [factor, factor]}
    steps: list[tuple[str, list[str], dict[str, object]]] = [
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("Transpose", [], {"perm": [0, 3, 1, 2]}),
        ("AveragePool", [], pool),
        *((("Add", [f"{name}/half"], {}), ("Floor", [], {})) if factor == 2 else (("Round", [], {}),)),
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
        ("Cast", [], {"to": TensorProto.UINT8}),
    ]
    nodes, given = [], CROPS
    for place, (operator, more, attributes) in enumerate(steps):
        output = name if place == len(steps) - 1 else f"{name}/{place}"
        nodes.append(helper.make_node(operator, [given, *more], [output], name=output, **attributes))
        given = output
    return nodes


def _smaller_constants(name: str, factor: int) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.array(0.5, np.float32), f"{name}/half")] if factor == 2 else []
