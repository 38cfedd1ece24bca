"""The first part of every graph made here: from crops as bytes to what the network takes.

Planes come first and arithmetic after: over a last axis of 3 ONNX Runtime takes 20 times longer. For one crop of 256 px
the whole takes 0.26 ms on a core (measured; FaceCycle's way, by rows, 0.27 ms).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from psm_export.model import Pixels

CROPS = "crops"
Layout = Literal["NCHW", "NHWC"]
PixelType = Literal["float32", "uint8"]


class PixelPart:
    """Nodes and constants that bring `crops`, uint8 [N, S, S, 3] RGB, to the tensor `output`.

    A network that takes bytes, or colours last, gets no more than it asks for: where nothing is to be done there is no
    node, and `output` is `crops` itself. prefix: begins every name.
    """

    def __init__(
        self, pixels: Pixels, layout: Layout = "NCHW", dtype: PixelType = "float32", prefix: str = "pixels"
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.output = CROPS
        self._prefix = prefix
        has_arithmetic = dtype == "float32" and (any(pixels.mean) or set(pixels.deviation) != {1.0})
        has_planes = layout == "NCHW" or has_arithmetic or pixels.colour == "BGR"
        if has_planes:
            self._add("Transpose", "planes", perm=[0, 3, 1, 2])
        if pixels.colour == "BGR":
            self._add("Gather", "bgr", self._constant("order", np.array([2, 1, 0])), axis=1)
        if dtype == "float32":
            self._add("Cast", "float", to=TensorProto.FLOAT)
        if has_arithmetic and any(pixels.mean):
            self._add("Sub", "centred", self._constant("mean", _by_plane(pixels.mean)))
        if has_arithmetic and set(pixels.deviation) != {1.0}:
            self._add("Div", "scaled", self._constant("deviation", _by_plane(pixels.deviation)))
        if has_planes and layout == "NHWC":
            self._add("Transpose", "last", perm=[0, 2, 3, 1])

    def _add(self, operator: str, name: str, *inputs: str, **attributes: object) -> None:
        output = f"{self._prefix}/{name}"
        self.nodes.append(helper.make_node(operator, [self.output, *inputs], [output], name=output, **attributes))
        self.output = output

    def _constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        self.constants.append(numpy_helper.from_array(value, f"{self._prefix}/{name}"))
        return f"{self._prefix}/{name}"


def _by_plane(values: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array(values, np.float32).reshape(3, 1, 1)
