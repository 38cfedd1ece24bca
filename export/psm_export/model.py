"""A model that can be exported, wherever it came from: what it wants, what it computes, and what is said of it.

Every reader (checkpoint folder, published file, somebody's own program) gives a `Model`, and everything after that
(precisions, gate, bundle, benchmark) takes one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import JsonValue

from psm_stream.bundle import Alignment

Crops = NDArray[np.uint8]
"""[N, S, S, 3] RGB, 0..255."""
Colour = Literal["RGB", "BGR"]


@dataclass(frozen=True, slots=True)
class Pixels:
    """How an encoder wants its pixels: (grey level - mean) / deviation, per colour.

    size_px: side of the square image. colour: order of the channels. mean, deviation: grey levels of 255, in the order
    of `colour`; deviation is not 0.
    """

    size_px: int
    colour: Colour = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (255.0, 255.0, 255.0)

    def of(self, crops: Crops) -> NDArray[np.float32]:
        """Bring crops [N, S, S, 3] RGB to what the encoder's network takes, [N, 3, S, S] float32."""
        ordered = crops if self.colour == "RGB" else crops[..., ::-1]
        mean, deviation = np.array(self.mean, np.float32), np.array(self.deviation, np.float32)
        scaled = (ordered.astype(np.float32) - mean) / deviation
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def described(self) -> str:
        """Say it in a manifest, for people."""
        order = f"{self.colour}, minus {_levels(self.mean)}, over {_levels(self.deviation)} grey levels of 255"
        return f"inside the graph: {order}"


IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""RGB, grey levels of 255."""


class Reference(Protocol):
    """The same encoder in float32, by other code than the graph that is measured against it."""

    @property
    def described(self) -> str:
        """What it is, in words: "the same weights in PyTorch, float32"."""

    def encode(self, crops: Crops) -> NDArray[np.float32]:
        """Encode crops [N, S, S, 3] of the encoder's size. Returns [N, D]."""

    def trace(self, crops: Crops) -> Mapping[str, NDArray[np.float32]]:
        """Return what the layers give for crops, by the name that the graph has for that tensor, first layer first.

        Of tensors whose layout differs, and of layers that the graph has merged, nothing need be given.
        """

    def eager(self) -> Callable[[Crops], object] | None:
        """Return what PyTorch runs for crops, normalising included, to be timed; None where there is no PyTorch model.

        The work is done when the call returns, on as many threads as torch is set to.
        """


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a model, and carried along into its bundle.

    licence: "unknown" where nobody said. training_data: what the weights were trained on, a line each. made_from: kind,
    name and sha256 of the file, and what it asked for.
    """

    name: str
    architecture: str
    licence: str = "unknown"
    training_data: tuple[str, ...] = ()
    note: str = ""
    trained: bool = True
    person: str | None = None
    parent: str | None = None
    training: Mapping[str, JsonValue] = field(default_factory=dict)
    made_from: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """An encoder that can be exported.

    dimension: D. alignment: the crop that it wants; `crop_px` at least `pixels.size_px`. build: writes the float32
    graph that bundles hold: `crops` uint8 [N, S, S, 3] RGB to `embedding` float32 [N, D], N free, pixels brought to
    what the network takes inside it; may raise BundleError. expected: crops [N, S, S, 3] and the embeddings [N, D] that
    the model's author measured of them, to which the export is held as well; None: nobody said.
    """

    about: About
    pixels: Pixels
    alignment: Alignment
    dimension: int
    reference: Reference
    build: Callable[[], onnx.ModelProto]
    expected: tuple[Crops, NDArray[np.float32]] | None = None


def _levels(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
