"""The published encoders in numpy and float64, straight from their layer tables: slow, obvious, and without torch."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
State = dict[str, NDArray[np.float32]]


def convolved(x: Array, state: State, key: str, stride: int, pad: int) -> Array:
    """x: [C, H, W]. One tap of the kernel after the other."""
    weight = state[f"{key}.weight"].astype(np.float64)
    side = weight.shape[2]
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    height, width = ((size + 2 * pad - side) // stride + 1 for size in x.shape[1:])
    out = np.zeros((len(weight), height, width))
    for row, column in np.ndindex(side, side):
        seen = padded[:, row : row + stride * height : stride, column : column + stride * width : stride]
        out += np.tensordot(weight[:, :, row, column], seen, axes=1)
    bias = state.get(f"{key}.bias")
    return out if bias is None else out + bias.astype(np.float64)[:, None, None]


def normalised(x: Array, state: State, key: str) -> Array:
    mean, variance, weight, bias = (
        state[f"{key}.{part}"].astype(np.float64)[:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.2 * x)


def fab_net(x: Array, state: State) -> Array:
    """x: [3, 256, 256] in 0..1. Eight convolutions 4 2 1; all but the first and the last are normalised."""
    x = leaky(convolved(x, state, "encoder.0", 2, 1))
    for place in (2, 5, 8, 11, 14, 17):
        x = leaky(normalised(convolved(x, state, f"encoder.{place}", 2, 1), state, f"encoder.{place + 1}"))
    return convolved(x, state, "encoder.20", 2, 1).ravel()


def tcae(x: Array, state: State) -> Array:
    """x: [3, 256, 256] in 0..1. Five shared convolutions, then the three of the expression."""
    norms = ["", "2_0", "4_0", "8_0", "8_1", "8_2_1", "8_3_1"]
    for name, norm in zip(["1", "2", "3", "4", "5", "6_1", "7_1"], norms, strict=True):
        x = leaky(normalised(convolved(x, state, f"conv{name}", 2, 1), state, f"batch_norm{norm}"))
    return convolved(x, state, "conv8_1", 2, 1).ravel()


def temporal_consistency(x: Array, state: State) -> Array:
    """x: [3, S, S], ImageNet-normalised. ResNet-18 to the mean over places, a linear layer, length 1."""
    x = np.maximum(normalised(convolved(x, state, "resnet18.0", 2, 3), state, "resnet18.1"), 0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    size = x.shape[1] // 2
    taps = [padded[:, r : r + 2 * size : 2, c : c + 2 * size : 2] for r, c in np.ndindex(3, 3)]
    x = np.max(taps, axis=0)
    for layer, block in np.ndindex(4, 2):
        key, stride = f"resnet18.{4 + layer}.{block}", 2 if layer > 0 and block == 0 else 1
        y = np.maximum(normalised(convolved(x, state, f"{key}.conv1", stride, 1), state, f"{key}.bn1"), 0)
        y = normalised(convolved(y, state, f"{key}.conv2", 1, 1), state, f"{key}.bn2")
        if stride == 2:
            x = normalised(convolved(x, state, f"{key}.downsample.0", 2, 0), state, f"{key}.downsample.1")
        x = np.maximum(x + y, 0)
    out = state["fc1.weight"].astype(np.float64) @ x.mean(axis=(1, 2)) + state["fc1.bias"]
    return out / np.sqrt((out**2).sum())
