"""Strong augmentation."""

from dataclasses import fields

import pytest
import torch

from psm_adapt.data.augment import plain
from psm_adapt.general.variety import Strengths, vary

NOTHING = Strengths(**{field.name: 1.0 if field.name == "saturation" else 0.0 for field in fields(Strengths)})


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.randint(1, 256, (6, 128, 128, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_seed_gives_the_same_images_and_another_gives_others(crops: torch.Tensor) -> None:
    first, second, other = (vary(crops, seeded(seed), Strengths())[0] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.allclose(first, other, atol=0.1)
    assert first.shape == (6, 3, 64, 64)
    assert first.isfinite().all()


def test_nothing_at_all_is_the_plain_transform(crops: torch.Tensor) -> None:
    images, is_flipped = vary(crops, seeded(0), NOTHING)
    assert not is_flipped.any()
    # saturation is drawn from 0 up to what is given, so compare brightness
    assert torch.allclose(images.mean(1), plain(crops).mean(1), atol=0.05)


def test_flipped_images_are_mirrored_ones(crops: torch.Tensor) -> None:
    always = Strengths(**{field.name: getattr(NOTHING, field.name) for field in fields(Strengths)} | {"flip": 1.0})
    flipped, is_flipped = vary(crops, seeded(0), always)
    straight, _ = vary(crops, seeded(0), NOTHING)
    assert is_flipped.all()
    assert torch.allclose(flipped, straight.flip(3), atol=1e-4)


def test_things_in_the_way_are_patches_of_one_colour(crops: torch.Tensor) -> None:
    hidden = Strengths(**{field.name: getattr(NOTHING, field.name) for field in fields(Strengths)} | {"occluded": 1.0})
    with_patch, _ = vary(crops, seeded(0), hidden)
    without, _ = vary(crops, seeded(0), NOTHING)
    changed = ((with_patch - without).abs() > 1e-4).any(1)
    for image, mask in zip(with_patch, changed, strict=True):
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert 5 <= rows <= 22
        assert 5 <= columns <= 22
        assert image[:, mask].std(1).max() < 1e-4


def test_mild_changes_less_than_the_default(crops: torch.Tensor) -> None:
    still = plain(crops)
    away = [
        (vary(crops, seeded(4), Strengths(**{"flip": 0.0}))[0] - still).abs().mean(),
        (vary(crops, seeded(4), Strengths.mild())[0] - still).abs().mean(),
    ]
    assert away[0] > 1.3 * away[1]
    assert Strengths.mild().bend == 0
