"""8-bit integers: ranges from calibration crops."""

from __future__ import annotations

import numpy as np
import onnx

from psm_export.model import Crops
from psm_export.precisions import observe
from psm_export.precisions.converted import Converted, Tell
from psm_export.quantise import quantise, quantised_tensors


def to_int8(model: onnx.ModelProto, calibration: Crops, tell: Tell) -> Converted:
    """Write a float32 graph again in integers. calibration: [N, S, S, 3]."""
    names = quantised_tensors(model)
    low, high = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for values in observe.tensors(model, names, calibration):
        for name, value in values.items():
            low[name], high[name] = min(low[name], float(value.min())), max(high[name], float(value.max()))
    tell(1, 1, "ranges")
    return Converted(quantise(model, {name: (0.8 * low[name], 0.8 * high[name]) for name in names}))
