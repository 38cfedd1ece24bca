"""From a float32 graph to one of another precision. `CONVERTERS` is the table; every entry takes the same three things.

- `half`: weights and arithmetic in float16, pixels and delicate sums in float32.
- `integers`: 8-bit integers where they do, float where measurement asks for it; `observe` and `rounding`
  are its steps, and `psm_export.quantise` writes the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import onnx

from psm_export.model import Crops
from psm_export.precisions.converted import Converted, Tell
from psm_export.precisions.half import to_fp16
from psm_export.precisions.integers import attempts, to_int8
from psm_stream.bundle import Precision

__all__ = ["CONVERTERS", "Converted", "Tell", "to_fp16", "to_int8"]


def _as_it_is(graph: onnx.ModelProto, calibration: Crops, tell: Tell) -> Iterator[Converted]:
    del calibration, tell
    yield Converted(graph)


def _half(graph: onnx.ModelProto, calibration: Crops, tell: Tell) -> Iterator[Converted]:
    del calibration
    tell(0, 1, "fp16")
    yield Converted(to_fp16(graph))


Converter = Callable[[onnx.ModelProto, Crops, Tell], Iterator[Converted]]
CONVERTERS: Mapping[Precision, Converter] = {"fp32": _as_it_is, "fp16": _half, "int8": attempts}
"""(float32 graph, crops to calibrate with, whom to tell) -> graphs of that precision, to be tried in turn."""
