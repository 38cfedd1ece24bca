"""Noise: off, or the same from the same seed in any layout and dtype."""

import torch

from psm_adapt.networks import NO_NOISE, seeded_noise


def test_no_noise_is_none() -> None:
    assert NO_NOISE.like(torch.zeros(1, 2, 3, 3)) is None


def test_noise_is_standard_normal_and_goes_on() -> None:
    noise = seeded_noise(1)
    one, other = noise.like(torch.zeros(4, 8, 32, 32)), noise.like(torch.zeros(4, 8, 32, 32))
    assert one is not None
    assert other is not None
    assert not torch.equal(one, other)
    assert abs(float(one.mean())) < 0.02
    assert abs(float(one.std()) - 1) < 0.02


def test_a_seed_gives_the_same_in_every_layout_and_dtype() -> None:
    maps = torch.zeros(2, 8, 4, 4)
    torch.manual_seed(0)
    wanted = seeded_noise(7).like(maps)
    torch.manual_seed(1)
    again = seeded_noise(7).like(maps.contiguous(memory_format=torch.channels_last))
    short = seeded_noise(7).like(maps.bfloat16())
    assert wanted is not None
    assert again is not None
    assert short is not None
    assert torch.equal(wanted, again)
    assert short.dtype == torch.bfloat16
    torch.testing.assert_close(short.float(), wanted, atol=0.02, rtol=0.01)
    assert again.is_contiguous(memory_format=torch.channels_last)
