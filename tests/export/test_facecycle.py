"""The FaceCycle graph equals a slow obvious network, and the authors' own numbers where they are at hand."""

import math
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from psm_export import facecycle, reference
from psm_stream.errors import BundleError

GOLDEN = Path(os.environ.get("PSM_GOLDEN", Path(__file__).resolve().parents[3] / "shared" / "golden"))


@pytest.fixture(scope="module")
def session(weights: dict[str, NDArray[np.float32]]) -> onnxruntime.InferenceSession:
    model = facecycle.build_model(weights)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_the_network_has_the_published_size() -> None:
    shapes = facecycle.weight_shapes()
    assert len(shapes) == 48
    assert sum(math.prod(shape) for shape in shapes.values()) == 4_240_000
    assert shapes["layer1.2.theta.weight"] == (64, 64, 1, 1)
    assert shapes["expresscode.0.weight"] == (512, 2048)


def test_the_graph_equals_the_slow_network(weights: dict, session: onnxruntime.InferenceSession) -> None:
    pictures = crops(2)
    given = session.run(["embedding"], {"crops": pictures})[0]
    wanted = reference.encode(weights, pictures)
    assert given.shape == (2, 256)
    assert given.dtype == np.float32
    assert np.abs(wanted).mean() > 0.005
    np.testing.assert_allclose(given, wanted, rtol=0, atol=2e-7)


def test_the_graph_gives_the_authors_numbers(session: onnxruntime.InferenceSession) -> None:
    if not (GOLDEN / "facecycle_step.npz").is_file():
        pytest.skip(f"no golden numbers at {GOLDEN}; set PSM_GOLDEN to the folder with facecycle_step.npz")
    with np.load(GOLDEN / "facecycle_step.npz") as golden:
        pictures = np.ascontiguousarray(golden["images_uint8"].transpose(0, 2, 3, 1))
        code = golden["code"].reshape(len(pictures), 256)
    given = session.run(["embedding"], {"crops": pictures})[0]
    np.testing.assert_allclose(given, code, rtol=0, atol=1e-6)  # 100 times closer than what was asked for


def test_a_face_does_not_depend_on_its_batch(session: onnxruntime.InferenceSession) -> None:
    pictures = crops(3)
    together = session.run(None, {"crops": pictures})[0]
    alone = np.concatenate([session.run(None, {"crops": picture[None]})[0] for picture in pictures])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_the_graph_takes_red_green_blue(weights: dict, session: onnxruntime.InferenceSession) -> None:
    picture = crops(1)
    right = reference.encode(weights, picture)
    swapped = session.run(None, {"crops": picture[..., ::-1].copy()})[0]
    assert np.abs(swapped - right).max() > 1e-3


@pytest.mark.parametrize("side", [1, 3])
def test_the_slow_convolution_is_the_definition(side: int) -> None:
    draw = np.random.default_rng(1)
    key = {1: "layer1.2.g", 3: "layer1.0"}[side]
    weight = draw.standard_normal((2, 3, side, side)).astype(np.float32)
    bias = draw.standard_normal(2).astype(np.float32)
    net = reference._Network({f"{key}.weight": weight, f"{key}.bias": bias}, {})
    x = draw.standard_normal((1, 3, 4, 4))
    padded = np.pad(x, ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2))
    for stride in (1, 2):
        given = net.plain_convolution(x, key, stride)
        for channel, row, column in np.ndindex(given.shape[1:]):
            seen = padded[0, :, row * stride : row * stride + side, column * stride : column * stride + side]
            assert given[0, channel, row, column] == pytest.approx((seen * weight[channel]).sum() + bias[channel])


def test_the_slow_attention_is_the_definition() -> None:
    """One number at a time: out[c, p] = x[c, p] + sum over d, q of phi[c, q] theta[d, q] g[d, p], then LeakyReLU."""
    draw = np.random.default_rng(2)
    parts = {
        f"a.{part}.weight": draw.standard_normal((3, 3, 1, 1)).astype(np.float32) for part in ("g", "theta", "phi")
    }
    parts |= {f"a.{part}.bias": draw.standard_normal(3).astype(np.float32) for part in ("g", "theta", "phi")}
    x = draw.standard_normal((1, 3, 2, 2))

    def mapped(part: str) -> NDArray[np.float64]:
        return parts[f"a.{part}.weight"][:, :, 0, 0] @ x[0].reshape(3, 4) + parts[f"a.{part}.bias"][:, None]

    g, theta, phi = np.exp(mapped("g")), np.exp(mapped("theta")), mapped("phi")
    g /= g.sum(axis=0)
    theta /= theta.sum(axis=1, keepdims=True)
    out = reference._Network(parts, {}).attention(x, "a").reshape(3, 4)
    for c, p in np.ndindex(3, 4):
        total = x[0].reshape(3, 4)[c, p]
        total += sum(phi[c, q] * theta[d, q] * g[d, p] for d in range(3) for q in range(4))
        assert out[c, p] == pytest.approx(total if total > 0 else 0.1 * total)


def test_the_slow_residual_block_is_the_definition() -> None:
    draw = np.random.default_rng(3)
    one, two = draw.standard_normal(2)
    weights = {
        "r.conv1.weight": np.full((1, 1, 1, 1), one, np.float32),
        "r.conv1.bias": np.zeros(1, np.float32),
        "r.conv2.weight": np.full((1, 1, 1, 1), two, np.float32),
        "r.conv2.bias": np.zeros(1, np.float32),
    }
    x = draw.standard_normal((1, 1, 2, 2))

    def leaky(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(value, 0.1 * value)

    wanted = leaky(x + leaky(x * np.float32(one)) * np.float32(two))
    np.testing.assert_allclose(reference._Network(weights, {}).residual(x, "r"), wanted)


def test_foreign_weights_are_refused(weights: dict) -> None:
    with pytest.raises(BundleError, match=r"1 of 48 tensors are missing, first 'conv1\.0\.bias'"):
        facecycle.build_model({key: tensor for key, tensor in weights.items() if key != "conv1.0.bias"})
    with pytest.raises(BundleError, match=r"unknown tensor 'module\.conv1"):
        facecycle.build_model({**weights, "module.conv1.0.bias": weights["conv1.0.bias"]})
    with pytest.raises(BundleError, match=r"'conv1\.0\.bias' is float32 \[32\], expected float32 \[64\]"):
        facecycle.build_model({**weights, "conv1.0.bias": np.zeros(32, np.float32)})
    with pytest.raises(BundleError, match="float64"):
        facecycle.build_model({**weights, "conv1.0.bias": np.zeros(64)})
    with pytest.raises(BundleError, match="not finite"):
        facecycle.build_model({**weights, "conv1.0.bias": np.full(64, np.nan, np.float32)})
