"""FaceCycle's expression encoder in numpy and float64: slow, obvious, and independent of any runtime.

The graph is checked against it, parity is measured against it, and activation ranges are taken from it, because its
numbers do not depend on the processor the way that float32 kernels do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from psm_export.facecycle import LEAK, PIXEL_DEVIATION, PIXEL_MEAN, Weights

Array = NDArray[np.float64]
Trace = dict[str, Array]
"""Tensor name -> value, by the names that `facecycle.build_model` gives."""


def encode(weights: Weights, crops: NDArray[np.uint8], trace: Trace | None = None) -> Array:
    """Encode crops [N, 64, 64, 3] uint8 RGB. Returns [N, 256] in (-1, 1).

    trace: where given, is filled with the inputs and outputs of every convolution and linear layer.
    """
    net = _Network(weights, {} if trace is None else trace)
    x = net.keep("pixels", ((crops - PIXEL_MEAN) / PIXEL_DEVIATION).transpose(0, 3, 1, 2))
    x = net.convolution(x, "conv1.0", stride=2)
    x = net.convolution(x, "conv1.2")
    x = net.convolution(x, "layer1.0")
    x = net.attention(x, "layer1.2")
    x = net.convolution(x, "layer1.3")
    x = net.convolution(x, "layer2_1.0", stride=2)
    x = net.attention(x, "layer2_1.2")
    x = net.convolution(x, "layer2_1.3")
    x = net.residual(x, "resblock1")
    x = net.residual(x, "resblock2")
    x = net.convolution(x, "layer2_2.0", stride=2)
    x = net.convolution(x, "layer2_2.2")
    x = net.convolution(x, "layer3_1.0", stride=2)
    x = net.convolution(x, "layer3_1.2")
    x = net.convolution(x, "layer3_2.0")
    x = net.convolution(x, "layer3_2.2")
    x = net.keep("flat", x.reshape(len(x), -1))
    x = net.leaky(net.linear(x, "expresscode.0"), "expresscode.0")
    return np.tanh(net.linear(x, "expresscode.2"))


class _Network:
    """The encoder's blocks over [N, C, H, W]."""

    def __init__(self, weights: Weights, trace: Trace) -> None:
        self.weights = {key: tensor.astype(np.float64) for key, tensor in weights.items()}
        self.trace = trace

    def keep(self, name: str, x: Array) -> Array:
        self.trace[name] = x
        return x

    def leaky(self, x: Array, name: str) -> Array:
        return self.keep(f"{name}/leaky", np.where(x > 0, x, LEAK * x))

    def linear(self, x: Array, key: str) -> Array:
        return self.keep(key, x @ self.weights[f"{key}.weight"].T + self.weights[f"{key}.bias"])

    def plain_convolution(self, x: Array, key: str, stride: int = 1) -> Array:
        weight, bias = self.weights[f"{key}.weight"], self.weights[f"{key}.bias"]
        pad = weight.shape[2] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        height, width = x.shape[2] // stride, x.shape[3] // stride
        out = np.zeros((len(x), len(weight), height, width))
        for row, column in np.ndindex(weight.shape[2:]):
            seen = padded[:, :, row : row + height * stride : stride, column : column + width * stride : stride]
            out += np.tensordot(seen, weight[:, :, row, column], axes=(1, 1)).transpose(0, 3, 1, 2)
        return self.keep(key, out + bias[:, None, None])

    def convolution(self, x: Array, key: str, stride: int = 1) -> Array:
        return self.leaky(self.plain_convolution(x, key, stride), key)

    def residual(self, x: Array, key: str) -> Array:
        inner = self.plain_convolution(self.convolution(x, f"{key}.conv1"), f"{key}.conv2")
        return self.leaky(x + inner, f"{key}/sum")

    def attention(self, x: Array, key: str) -> Array:
        flat = (len(x), x.shape[1], -1)
        g = softmax(self.plain_convolution(x, f"{key}.g").reshape(flat), axis=1)
        theta = softmax(self.plain_convolution(x, f"{key}.theta").reshape(flat), axis=2)
        phi = self.plain_convolution(x, f"{key}.phi").reshape(flat)
        attended = phi @ theta.transpose(0, 2, 1) @ g
        return self.leaky(x + attended.reshape(x.shape), f"{key}/sum")


def softmax(x: Array, axis: int) -> Array:
    """Exponentials that sum to one along an axis."""
    power = np.exp(x - x.max(axis=axis, keepdims=True))
    normalised: Array = power / power.sum(axis=axis, keepdims=True)
    return normalised
