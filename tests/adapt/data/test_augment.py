"""The augmentation, against slow references for one image at a time: PIL, colorsys, OpenCV."""

import colorsys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from psm_adapt.data.augment import (
    Draws,
    Strength,
    augment,
    augment_pairs,
    cut,
    denormalise,
    draw,
    jitter,
    mirror,
    normalise,
    plain,
    shrink,
)

STRONG = Strength(area=(0.3, 1.2), ratio=(0.5, 2), brightness=0.6, contrast=0.6, saturation=0.9, hue=0.4)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@pytest.fixture
def photograph():
    """[128, 128, 3] with colours, edges and smooth parts."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[40:168, 160:288])


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def images(array):
    """[H, W, 3] -> float [1, 3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float()


def levels(tensor):
    """[1, 3, H, W] -> [H, W, 3]."""
    return tensor[0].permute(1, 2, 0).numpy()


def one_change(which, factor):
    factors = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    factors[0, which] = factor
    box = torch.tensor([[0, 0, 64, 64]])
    return Draws(box, torch.tensor([False]), torch.tensor([[2, 0, 3, 1]]), factors)


def test_shrinks_as_opencv_does(rng):
    crops = rng.integers(0, 256, (3, 128, 128, 3), np.uint8)
    small = shrink(torch.from_numpy(crops))
    for crop, image in zip(crops, small, strict=True):
        expected = cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_crops_of_64_px_stay_as_they_are(rng):
    crops = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(shrink(torch.from_numpy(crops)).permute(0, 2, 3, 1).numpy(), crops)


@pytest.mark.parametrize("shape", [(2, 100, 100, 3), (2, 128, 64, 3), (128, 128, 3), (2, 3, 64, 64)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="crops must be uint8"):
        plain(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"torch\.float32"):
        plain(torch.zeros(1, 64, 64, 3))


def test_plain_is_imagenets_normalisation(photograph):
    small = cv2.resize(photograph, (64, 64), interpolation=cv2.INTER_AREA)
    expected = (small / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    given = plain(torch.from_numpy(photograph)[None])
    np.testing.assert_allclose(levels(given), expected, atol=1e-5)
    np.testing.assert_allclose(levels(denormalise(given)), small / 255, atol=1e-6)


@pytest.mark.parametrize("strength", [Strength(), STRONG])
def test_cut_is_pils_crop_resize_and_mirror(photograph, generator, strength):
    small = shrink(torch.from_numpy(photograph)[None])
    draws = draw(20, generator, strength)
    assert 5 <= draws.is_flipped.sum() <= 15
    given = cut(small.expand(20, -1, -1, -1), draws)
    source = Image.fromarray(levels(small).astype(np.uint8))
    for n, (top, left, height, width) in enumerate(draws.box.tolist()):
        expected = source.crop((left, top, left + width, top + height)).resize((64, 64), Image.Resampling.BILINEAR)
        if draws.is_flipped[n]:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        # PIL rounds to whole levels after each of its two passes
        np.testing.assert_allclose(levels(given[n : n + 1]), np.asarray(expected, float), atol=1.05)


def test_boxes_are_torchvisions(generator):
    boxes = draw(20_000, generator, STRONG).box.numpy()
    top, left, height, width = boxes.T
    assert (boxes >= 0).all()
    assert ((top + height <= 64) & (left + width <= 64)).all()
    # torchvision's RandomResizedCrop, one at a time: the first of ten tries that fits
    again, expected = np.random.default_rng(1), []
    for _ in range(20_000):
        for _ in range(10):
            area, ratio = again.uniform(0.3, 1.2) * 4096, np.exp(again.uniform(np.log(0.5), np.log(2)))
            w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if 0 < w <= 64 and 0 < h <= 64:
                expected.append((h, w, again.integers(0, 64 - h + 1), again.integers(0, 64 - w + 1)))
                break
        else:
            expected.append((64, 64, 0, 0))
    for given, wanted in zip((height, width, top, left), np.array(expected).T, strict=True):
        assert abs(given.mean() - wanted.mean()) < 0.4
        assert abs(given.std() - wanted.std()) < 0.4


def test_published_boxes_take_95_to_100_percent(generator):
    boxes = draw(2000, generator).box
    assert set(boxes[:, 2:].flatten().tolist()) == {61, 62, 63, 64}
    assert (boxes[:, 2] * boxes[:, 3] / 4096).min() > 0.95 - 0.02  # sides are whole px


@pytest.mark.parametrize("factor", [0.4, 0.95, 1.05, 1.6])
@pytest.mark.parametrize(
    ("which", "enhance"),
    [
        (BRIGHTNESS, ImageEnhance.Brightness),
        (CONTRAST, ImageEnhance.Contrast),
        (SATURATION, ImageEnhance.Color),
    ],
)
def test_each_blend_is_pils(photograph, which, enhance, factor):
    expected = np.asarray(enhance(Image.fromarray(photograph)).enhance(factor), float)
    given = levels(jitter(images(photograph), one_change(which, factor)))
    # PIL cuts the fraction off, and rounds grey values, which 1.6 makes more of
    np.testing.assert_allclose(given, expected, atol=1.6)
    assert abs(given - photograph).max() > 3


@pytest.mark.parametrize("turn", [-0.4, -0.01, 0.01, 0.3])
def test_hue_is_colorsys(photograph, turn):
    some = np.ascontiguousarray(photograph[::4, ::4])
    some[0, :4] = [(0, 0, 0), (255, 255, 255), (90, 90, 90), (255, 0, 0)]
    expected = np.zeros(some.shape)
    for place in np.ndindex(some.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(some[place] / 255.0))
        expected[place] = np.multiply(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), 255)
    given = levels(jitter(images(some), one_change(HUE, turn)))
    np.testing.assert_allclose(given, expected, atol=2e-3)


def _slow_jitter(image, order, factors):
    for change in order:
        grey = image @ [0.299, 0.587, 0.114]
        if change == HUE:
            hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3) / 255]
            turned = [colorsys.hsv_to_rgb((h + factors[HUE]) % 1, s, v) for h, s, v in hsv]
            image = 255 * np.reshape(turned, image.shape)
        else:
            base = {BRIGHTNESS: 0.0, CONTRAST: grey.mean(), SATURATION: grey[..., None]}[change]
            image = np.clip(base + factors[change] * (image - base), 0, 255)
    return image


def test_every_image_has_its_own_changes_in_its_own_order(photograph, generator):
    draws = draw(12, generator, STRONG)
    assert len({tuple(order) for order in draws.order.tolist()}) > 5
    some = np.ascontiguousarray(photograph[::4, ::4])
    given = jitter(images(some).expand(12, -1, -1, -1), draws)
    for n in range(12):
        expected = _slow_jitter(some.astype(float), draws.order[n].tolist(), draws.factors[n].tolist())
        np.testing.assert_allclose(levels(given[n : n + 1]), expected, atol=5e-3)


def test_draws_have_the_published_shares(generator):
    draws = draw(20_000, generator)
    changed = (draws.factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(dim=1)
    assert abs(changed.float().mean() - 0.8) < 0.02
    assert abs(draws.is_flipped.float().mean() - 0.5) < 0.02
    low, high = draws.factors.amin(dim=0), draws.factors.amax(dim=0)
    torch.testing.assert_close(low, torch.tensor([0.95, 0.95, 0.95, -0.01]), atol=1e-3, rtol=0)
    torch.testing.assert_close(high, torch.tensor([1.05, 1.05, 1.05, 0.01]), atol=1e-3, rtol=0)
    counts = torch.unique(draws.order, dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert abs(counts / (20_000 / 24) - 1).max() < 0.2


def test_augment_is_its_steps_and_repeats_with_its_seed(photograph):
    crops = torch.from_numpy(photograph)[None].expand(6, -1, -1, -1)
    first, again, other = (augment(crops, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    draws = draw(6, torch.Generator().manual_seed(1))
    assert torch.equal(first, normalise(jitter(cut(shrink(crops), draws), draws)))
    assert first.dtype == torch.float32
    assert first.shape == (6, 3, 64, 64)


def test_flipped_pairs_are_the_augmented_image_mirrored(photograph, generator):
    a = torch.from_numpy(photograph)[None].expand(5, -1, -1, -1)
    b = 255 - a
    is_flip = torch.tensor([True, False, True, False, False])
    first, second = augment_pairs(a, b, is_flip, generator)
    assert torch.equal(second[is_flip], mirror(first[is_flip]))
    for n in (1, 3, 4):
        assert (second[n] + first[n]).abs().mean() < (second[n] - first[n]).abs().mean()  # a negative
    assert not torch.equal(second[1], second[3])


def test_pairs_may_all_be_flips_or_none(photograph, generator):
    a = torch.from_numpy(photograph)[None].expand(3, -1, -1, -1)
    first, second = augment_pairs(a, a, torch.ones(3, dtype=torch.bool), generator)
    assert torch.equal(second, first.flip(3))
    first, second = augment_pairs(a, a, torch.zeros(3, dtype=torch.bool), generator)
    assert not torch.equal(second, first.flip(3))
