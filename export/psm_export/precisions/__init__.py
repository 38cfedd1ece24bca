"""From a float32 graph to one of another precision. `CONVERTERS` is the table; every entry takes the same three things.

- `half`: weights and arithmetic in float16, pixels and delicate sums in float32.
- `integers`: 8-bit integers where they do, float where measurement asks for it; `observe` and `rounding`
  are its steps, and `psm_export.quantise` writes the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from psm_export.model import Crops
from psm_export.precisions.converted import Converted, Tell
from psm_export.precisions.half import to_fp16
from psm_export.precisions.integers import to_int8
from psm_stream.bundle import Precision

__all__ = ["CONVERTERS", "Converted", "Tell", "to_fp16", "to_int8"]


def _as_it_is(graph: onnx.ModelProto, calibration: Crops, tell: Tell) -> Converted:
    del calibration
    tell(1, 1, "float32 as it is")
    return Converted(graph)


def _half(graph: onnx.ModelProto, calibration: Crops, tell: Tell) -> Converted:
    del calibration
    converted = Converted(to_fp16(graph))
    tell(1, 1, "half precision")
    return converted


Converter = Callable[[onnx.ModelProto, Crops, Tell], Converted]
CONVERTERS: Mapping[Precision, Converter] = {"fp32": _as_it_is, "fp16": _half, "int8": to_int8}
"""(float32 graph, crops to calibrate with, whom to tell) -> the graph of that precision."""
