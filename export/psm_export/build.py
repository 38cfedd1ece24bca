"""From the encoder's weights to an ONNX model of a given precision, and how far that is from the same in float64."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from psm_export import facecycle, quantise, reference
from psm_export.facecycle import Weights
from psm_export.model import Crops
from psm_export.parity.figures import measure_parity
from psm_stream.bundle import Parity

Precision = Literal["int8", "fp32"]

_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6)
_AT_ONCE = 12
"""Crops in memory at a time: a trace takes 25 MB for each."""
_ENDS = ("ReduceMin", "ReduceMax")


def build(weights: Weights, precision: Precision, calibration: Crops, kept: float | None = None) -> onnx.ModelProto:
    """Build the encoder's model.

    weights: by the authors' keys. calibration: crops [N, 64, 64, 3] RGB that integer ranges are taken from.
    kept: share of each activation's range that integers cover, what lies outside is clipped; None: the share out of a
    few that gives the smallest error over the calibration crops. Only int8 reads these two.
    Raises BundleError: these are not the encoder's weights.
    """
    model = facecycle.build_model(weights)
    if precision == "fp32":
        return model
    ranges, embeddings = _calibrate(weights, quantise.quantised_tensors(model), calibration)
    if kept is not None:
        return quantise.quantise(model, shrunk(ranges, kept))
    candidates = [quantise.quantise(model, shrunk(ranges, share)) for share in _SHARES]
    errors = [float(np.abs(run(candidate, calibration) - embeddings).mean()) for candidate in candidates]
    return candidates[errors.index(min(errors))]


def measure(model: onnx.ModelProto, weights: Weights, crops: Crops, against: str) -> Parity:
    """Compare a model with its weights in float64, over crops [N, 64, 64, 3]. against: the reference in words."""
    chunks = [crops[start : start + _AT_ONCE] for start in range(0, len(crops), _AT_ONCE)]
    wanted = np.concatenate([reference.encode(weights, chunk) for chunk in chunks])
    return measure_parity(wanted, run(model, crops), against)


def run(model: onnx.ModelProto, crops: Crops) -> NDArray[np.float32]:
    """Run a model on one thread of the CPU. crops: [N, 64, 64, 3]. Returns [N, 256]."""
    session = _session(model)
    chunks = [crops[start : start + _AT_ONCE] for start in range(0, len(crops), _AT_ONCE)]
    return np.concatenate([session.run(None, {"crops": chunk})[0] for chunk in chunks])


def observed_ranges(model: onnx.ModelProto, crops: Crops) -> quantise.Ranges:
    """Return the ranges that `quantise.quantise` needs, over crops [N, 64, 64, 3], by ONNX Runtime in float32.

    For a model made where it runs: ten times as fast as the float64 network that `build` takes ranges from, but the
    last bits depend on the processor. The last layer's range is left out, so that it gives float32: the embedding is
    rounded once less, and a face that is more expressive than any of the crops is not clipped.
    """
    names = quantise.quantised_tensors(model)[:-1]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in names:
        for end in _ENDS:
            watched.graph.node.append(helper.make_node(end, [name], [f"{name}/{end}"], keepdims=0))
            watched.graph.output.append(helper.make_tensor_value_info(f"{name}/{end}", TensorProto.FLOAT, []))
    session = _session(watched)
    chunks = [crops[start : start + _AT_ONCE] for start in range(0, len(crops), _AT_ONCE)]
    seen = np.array([session.run(None, {"crops": chunk})[1:] for chunk in chunks])
    low, high = seen[:, ::2].min(axis=0), seen[:, 1::2].max(axis=0)
    ranges = {name: (float(low[place]), float(high[place])) for place, name in enumerate(names)}
    return {**ranges, "pixels": facecycle.pixel_range()}


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = model.SerializeToString(deterministic=True)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _calibrate(weights: Weights, names: list[str], crops: Crops) -> tuple[quantise.Ranges, reference.Array]:
    """Smallest and largest value of each tensor over the crops, and their embeddings, all in float64."""
    low, high, embeddings = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf), []
    for start in range(0, len(crops), _AT_ONCE):
        trace: reference.Trace = {}
        embeddings.append(reference.encode(weights, crops[start : start + _AT_ONCE], trace))
        for name in names:
            low[name] = min(low[name], float(trace[name].min()))
            high[name] = max(high[name], float(trace[name].max()))
    return {name: (low[name], high[name]) for name in names}, np.concatenate(embeddings)


def shrunk(ranges: quantise.Ranges, kept: float) -> quantise.Ranges:
    """Keep a share of each range but that of the pixels, which is known however pictures are exposed."""
    shrunk = {name: (kept * low, kept * high) for name, (low, high) in ranges.items()}
    return {**shrunk, "pixels": facecycle.pixel_range()}
