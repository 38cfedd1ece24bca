"""Losses equal slow obvious versions, and scikit-image where it has the same."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from psm_adapt.losses import gram, gram_distance, l1, ssim, ssim_target, symmetry


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def slow_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Equation 13 place by place, in float64: window of 11, sigma 1.5, zeros outside."""
    height, width = one.shape
    window = np.exp(-((np.arange(11) - 5.0) ** 2) / 4.5)
    window = np.outer(window, window) / window.sum() ** 2
    one, other = (np.pad(image.astype(np.float64), 5) for image in (one, other))
    values = []
    for y in range(height):
        for x in range(width):
            a, b = one[y : y + 11, x : x + 11], other[y : y + 11, x : x + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
            both = (window * a * b).sum() - mean_a * mean_b
            above = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
            values.append(above / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(values))


def test_ssim_is_the_slow_ssim_also_at_the_border() -> None:
    one, other = images(2, 3, 14, 9), images(2, 3, 14, 9, seed=1) * 0.3
    other += one
    wanted = np.mean(
        [slow_ssim(a, b) for a, b in zip(one.flatten(0, 1).numpy(), other.flatten(0, 1).numpy(), strict=True)]
    )
    assert float(ssim(one, ssim_target(other))) == pytest.approx(wanted, abs=1e-6)


def test_ssim_is_scikit_images() -> None:
    one, other = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    one[..., 12:52, 12:52] = images(40, 40)  # an empty border, since scikit-image mirrors where we see zeros
    other[..., 12:52, 12:52] = one[..., 12:52, 12:52] + 0.2 * images(40, 40, seed=1)
    _, places = structural_similarity(
        one[0, 0].numpy(),
        other[0, 0].numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    assert float(ssim(one, ssim_target(other))) == pytest.approx(places.mean(), abs=1e-5)
    assert places.mean() < 0.99


def test_ssim_is_one_for_equal_images_and_falls_with_noise() -> None:
    image, noise = images(1, 3, 32, 32), images(1, 3, 32, 32, seed=1)
    target = ssim_target(image)
    equal, near, far = (float(ssim(image + amount * noise, target)) for amount in (0.0, 0.2, 1.0))
    assert equal == pytest.approx(1, abs=1e-5)
    assert equal > near > far


def test_l1_and_symmetry() -> None:
    image = torch.tensor([[[[1.0, 2.0, 5.0, 7.0]]]])
    assert float(l1(image, image + 3)) == 3
    assert float(symmetry(image)) == pytest.approx((6 + 3) / 2)
    assert float(symmetry(torch.cat((image, image.flip(-1)), -1))) == 0


def slow_gram(maps: Tensor) -> Tensor:
    count, channels, height, width = maps.shape
    result = torch.zeros(count, channels, channels)
    for n in range(count):
        for i in range(channels):
            for j in range(channels):
                result[n, i, j] = (maps[n, i] * maps[n, j]).sum() / (height * width)
    return result


def test_gram_is_the_slow_gram_in_both_layouts() -> None:
    maps = images(2, 4, 3, 5)
    torch.testing.assert_close(gram(maps), slow_gram(maps))
    torch.testing.assert_close(gram(maps.contiguous(memory_format=torch.channels_last)), slow_gram(maps))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gram_distance_and_its_gradient(layout: torch.memory_format) -> None:
    made = [images(6, 4, 3, 5, seed=1), images(6, 7, 2, 2, seed=2)]  # three stacks of two images
    wanted = [slow_gram(images(2, 4, 3, 5, seed=3)), slow_gram(images(2, 7, 2, 2, seed=4))]
    slow = [maps.clone().requires_grad_() for maps in made]
    fast = [maps.clone(memory_format=layout).requires_grad_() for maps in made]
    distance = sum(
        ((gram(maps) - target.repeat(3, 1, 1)) ** 2).mean() for maps, target in zip(slow, wanted, strict=True)
    )
    given = gram_distance(fast, wanted)
    torch.testing.assert_close(given, distance)
    (2 * given).backward()
    (2 * distance).backward()
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_losses_are_float32_under_autocast() -> None:
    one, other = images(2, 3, 16, 16).bfloat16(), images(2, 3, 16, 16, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [l1(one, other), symmetry(one), ssim(one, ssim_target(other)), gram_distance([one], [gram(other)])]
    exact = [l1(one.float(), other), symmetry(one.float()), ssim(one.float(), ssim_target(other))]
    exact.append(gram_distance([one.float()], [gram(other)]))
    for given, wanted in zip(losses, exact, strict=True):
        assert given.dtype == torch.float32
        assert math.isclose(float(given), float(wanted), rel_tol=1e-6)
