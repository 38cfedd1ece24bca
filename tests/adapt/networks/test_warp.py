"""Warping equals a slow obvious version with zeros outside; the back-flow leads back."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from psm_adapt.networks.warp import back_flow, resize_flow, warp, warp_image


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def slow_warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """One image [C, H, W], one flow [2, H, W]: each place reads where its flow points to, between four pixels."""
    _, height, width = image.shape
    result = np.zeros_like(image)

    def pixel(y: int, x: int) -> np.ndarray:
        return image[:, y, x] if 0 <= y < height and 0 <= x < width else np.zeros(len(image), image.dtype)

    for i in range(height):
        for j in range(width):
            x = j + flow[0, i, j] * (width - 1) / 2
            y = i + flow[1, i, j] * (height - 1) / 2
            left, top = math.floor(x), math.floor(y)
            a, b = x - left, y - top
            upper = (1 - a) * pixel(top, left) + a * pixel(top, left + 1)
            lower = (1 - a) * pixel(top + 1, left) + a * pixel(top + 1, left + 1)
            result[:, i, j] = (1 - b) * upper + b * lower
    return result


def test_warping_is_the_slow_warping_with_zeros_outside() -> None:
    maps, flow = random(2, 3, 7, 5), 0.8 * random(2, 2, 7, 5, seed=1)
    wanted = np.stack([slow_warp(one.numpy(), by.numpy()) for one, by in zip(maps, flow, strict=True)])
    np.testing.assert_allclose(warp(maps, flow).numpy(), wanted, atol=2e-5)
    assert (wanted == 0).any()


def test_a_flow_of_two_pixels_to_the_right_shows_what_is_there() -> None:
    image = random(1, 3, 8, 9)
    flow = torch.zeros(1, 2, 8, 9)
    flow[:, 0] = 2 * 2 / 8
    moved = warp(image, flow)
    torch.testing.assert_close(moved[..., :-2], image[..., 2:], atol=1e-5, rtol=0)
    assert float(moved[..., -2:].abs().max()) < 1e-5


def test_no_flow_changes_nothing() -> None:
    image = random(2, 3, 64, 64)
    torch.testing.assert_close(warp_image(image, torch.zeros(2, 2, 16, 16)), image, atol=1e-4, rtol=0)


def test_a_flow_is_stretched_between_its_corners() -> None:
    flow = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    stretched = resize_flow(flow, 3, 3)
    torch.testing.assert_close(stretched[0, 0], torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]]))


def test_an_images_flow_is_clamped_and_a_features_is_not() -> None:
    image = random(1, 1, 5, 5)
    far = torch.zeros(1, 2, 5, 5)
    far[:, 0] = 1.5
    one = far.clamp(-1, 1)
    torch.testing.assert_close(warp_image(image, far), warp(image, one))
    assert not torch.allclose(warp(image, far), warp(image, one))


def test_the_back_flow_of_a_shift_is_the_opposite_shift() -> None:
    shift = torch.tensor([0.2, -0.1]).view(1, 2, 1, 1).expand(1, 2, 16, 16)
    back = back_flow(shift)
    torch.testing.assert_close(back[..., 3:-3, 3:-3], -shift[..., 3:-3, 3:-3])


def test_the_back_flow_is_minus_the_flow_read_where_it_points() -> None:
    flow = 0.5 * random(2, 2, 6, 6)
    wanted = np.stack([-np.clip(slow_warp(one.numpy(), one.numpy()), -1, 1) for one in flow])
    np.testing.assert_allclose(back_flow(flow).numpy(), wanted, atol=1e-5)
    assert float(back_flow(4 * flow).abs().max()) <= 1


def test_a_smooth_image_warped_there_and_back_is_itself() -> None:
    line = torch.linspace(-1, 1, 64)
    image = (torch.sin(2 * line)[None, :] * torch.cos(3 * line)[:, None]).view(1, 1, 64, 64)
    coarse = torch.nn.functional.avg_pool2d(0.3 * random(1, 2, 20, 20), 5, 1)
    flow = 0.05 * coarse / coarse.abs().max()
    there = warp_image(image, flow)
    inner = slice(8, -8)
    away = (there - image)[..., inner, inner].abs().mean()
    back = (warp_image(there, back_flow(flow)) - image)[..., inner, inner].abs().mean()
    assert back < 0.25 * away


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dtype_and_layout_stay_and_places_are_exact(layout: torch.memory_format) -> None:
    maps = random(2, 8, 16, 16).contiguous(memory_format=layout)
    flow = 0.3 * random(2, 2, 16, 16, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        moved = warp(maps.bfloat16(), flow)
    assert moved.dtype == torch.bfloat16
    assert moved.is_contiguous(memory_format=layout)
    torch.testing.assert_close(moved, warp(maps.bfloat16().float(), flow).bfloat16())


def test_gradients_reach_image_and_flow() -> None:
    image, flow = random(1, 3, 8, 8).requires_grad_(), (0.1 * random(1, 2, 4, 4)).requires_grad_()
    warp_image(image, flow).square().sum().backward()
    for one in (image, flow):
        assert one.grad is not None
        assert float(one.grad.abs().max()) > 0
