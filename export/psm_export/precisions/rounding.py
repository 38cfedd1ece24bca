"""Weights rounded so that what a layer gives errs least, and not so that each weight does.

A layer's inputs are correlated, so the error of one weight can be made good by the weights after it. Weights are
rounded one input at a time, those of the liveliest inputs first, and the error of each is spread over those to come.

On the general model this halves what 7-bit weights cost. Three neighbours of it were tried there and made the whole
worse on people nobody calibrated on: fitting weights to the inputs of the quantised model, correcting biases by the
mean of what remains, and ranges by least squares.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023,
after Hassibi and Stork, NIPS 1993. Here in float64 and around the mean, which a bias carries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from psm_export.quantise import WEIGHT_MAX, Integers, Layer

Array = NDArray[np.float64]

DAMPING = 0.01
"""Added to the inputs' covariance, as a share of its mean diagonal: inputs that calibration never saw move."""
PLACES = 24
"""Places of a map that a convolution is looked at, in each crop."""
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Shares of the largest weight that the last step may stand for."""
LARGEST = 2400
"""Inputs of a layer, beyond which it is left to the nearest step: time grows with their cube, 10 s for 4,600."""
_BLOCK = 64
"""Inputs that are rounded before the error is spread over all that follow."""


class Moments:
    """Mean and covariance of what a layer reads for one output, over crops that come a few at a time."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        size = layer.weight.size // layer.weight.shape[layer.axis]
        self._sum = np.zeros(size)
        self._products = np.zeros((size, size))
        self._count = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Look at what the layer reads for some crops, [N, ...]."""
        patches = _patches(self.layer, values).astype(np.float64)
        self._sum += patches.sum(axis=0)
        self._products += patches.T @ patches
        self._count += len(patches)

    def mean(self) -> Array:
        """Mean input, [K]."""
        return self._sum / self._count

    def covariance(self) -> Array:
        """Covariance, damped, [K, K]; around 0 where the layer has no bias to carry the mean."""
        covariance = self._products / self._count
        if self.layer.bias is not None:
            covariance -= np.outer(self.mean(), self.mean())
        covariance[np.diag_indices_from(covariance)] += DAMPING * np.trace(covariance) / len(covariance) + 1e-12
        return covariance


def can_round(layer: Layer) -> bool:
    """Whether `Moments` knows how the layer reads: convolutions without groups, gaps or automatic padding; linear."""
    plain = {"group": 1, "auto_pad": b"NOTSET", "dilations": [1, 1]}
    attributes = {one.name: helper.get_attribute_value(one) for one in layer.node.attribute}
    is_image = layer.node.op_type == "Conv"
    if layer.weight.size > LARGEST * layer.weight.shape[layer.axis]:
        return False
    return (not is_image or layer.weight.ndim == 4) and all(
        attributes.get(name, value) == value for name, value in plain.items()
    )


def fit(moments: Moments) -> Integers:
    """Round a layer's weights by what it reads."""
    layer = moments.layer
    outputs_first = np.moveaxis(layer.weight, layer.axis, 0)
    weight = outputs_first.reshape(len(outputs_first), -1).astype(np.float64)
    covariance = moments.covariance()
    scale = _scale(weight, np.diag(covariance))
    steps = _rounded(weight / scale[:, None], covariance)
    bias = layer.bias
    if bias is not None:
        bias = (bias + (weight - steps * scale[:, None].astype(np.float64)) @ moments.mean()).astype(np.float32)
    placed = np.moveaxis(steps.reshape(outputs_first.shape), 0, layer.axis)
    return Integers(np.ascontiguousarray(placed), scale, bias)


def _scale(weight: Array, variance: Array) -> NDArray[np.float32]:
    """Size of a step for each output: the one of a few that errs least, counting each input by its variance."""
    largest = np.abs(weight).max(axis=1)
    largest = np.where(largest > 0, largest, WEIGHT_MAX)
    scales = np.stack([(clip * largest / WEIGHT_MAX).astype(np.float32) for clip in _CLIPS])
    errors = []
    for scale in scales:
        rounded = np.clip(np.rint(weight / scale[:, None]), -WEIGHT_MAX, WEIGHT_MAX) * scale[:, None]
        errors.append(((rounded - weight) ** 2 * variance).sum(axis=1))
    best: NDArray[np.float32] = scales[np.argmin(errors, axis=0), np.arange(len(weight))]
    return best


def _rounded(weight: Array, covariance: Array) -> NDArray[np.int8]:
    """Round weights [outputs, K], given in steps, input by input. covariance: [K, K]."""
    order = np.argsort(-np.diag(covariance), kind="stable")
    rest = weight[:, order].copy()
    upper = np.linalg.cholesky(np.linalg.inv(covariance[np.ix_(order, order)])).T
    steps = np.empty_like(rest)
    for start in range(0, len(order), _BLOCK):
        end = min(start + _BLOCK, len(order))
        errors = np.empty((len(rest), end - start))
        for place in range(start, end):
            steps[:, place] = np.clip(np.rint(rest[:, place]), -WEIGHT_MAX, WEIGHT_MAX)
            errors[:, place - start] = (rest[:, place] - steps[:, place]) / upper[place, place]
            rest[:, place + 1 : end] -= np.outer(errors[:, place - start], upper[place, place + 1 : end])
        rest[:, end:] -= errors @ upper[start:end, end:]
    placed = np.empty(steps.shape, np.int8)
    placed[:, order] = steps.astype(np.int8)
    return placed


def _patches(layer: Layer, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a layer reads for one output, [M, K], inputs in the order of its weights."""
    if layer.node.op_type != "Conv":
        return values.reshape(-1, values.shape[-1])
    attributes = {one.name: helper.get_attribute_value(one) for one in layer.node.attribute}
    (top, left, bottom, right), (down, across) = attributes.get("pads", [0] * 4), attributes.get("strides", [1, 1])
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    high, wide = layer.weight.shape[2:]
    height, width = (padded.shape[2] - high) // down + 1, (padded.shape[3] - wide) // across + 1
    places = np.linspace(0, height * width - 1, min(PLACES, height * width)).astype(int)
    patches = np.empty((len(values), len(places), *layer.weight.shape[1:]), np.float32)
    for crop, place in np.ndindex(patches.shape[:2]):
        # places move from crop to crop, or some would never be seen
        row, column = divmod((places[place] + 7 * crop) % (height * width), width)
        patches[crop, place] = padded[crop, :, row * down :, column * across :][:, :high, :wide]
    return patches.reshape(len(values) * len(places), -1)
