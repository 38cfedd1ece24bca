"""Neutral faces: the distance by hand, and networks that are made to collapse or to do nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from psm_adapt.data.augment import denormalise, plain
from psm_adapt.evaluate.neutral import mean_distance, neutral_distance, neutral_faces, noise_check
from psm_adapt.networks import Design, build_networks, seeded_noise

LIGHT = Design(generator="light", stem="learned", perceptual="none", init="he")


class Stub(nn.Module):
    """Networks whose generator is given."""

    def __init__(self, draw) -> None:
        super().__init__()
        self.encoder = nn.Flatten()
        self.flow_decoder = nn.Identity()
        self.draw = draw

    def generator(self, images, flow, _):
        assert flow.shape == (len(images), 3 * 64 * 64)
        return self.draw(images)


@pytest.fixture
def crops(rng) -> np.ndarray:
    return rng.integers(0, 256, (20, 128, 128, 3), np.uint8)


def test_distance_by_hand():
    images = torch.zeros(3, 3, 2, 2)
    images[1] = 0.5  # sqrt(12 * .25) from the first
    images[2, 0, 0, 0] = 1
    pairs = [12 * 0.25, 1, 11 * 0.25 + 0.25]
    assert mean_distance(images) == pytest.approx(np.mean(np.sqrt(pairs)))


def test_distance_is_of_0_to_1_images(crops):
    same = neutral_distance(Stub(lambda images: images), crops)
    shown = denormalise(plain(torch.from_numpy(crops))).numpy().reshape(20, -1)
    expected = np.mean([np.linalg.norm(shown[a] - shown[b]) for a in range(20) for b in range(a)])
    assert same.of_inputs == same.of_neutrals == pytest.approx(expected, rel=1e-5)


def test_a_collapsed_model(crops):
    one = torch.ones(1, 3, 64, 64)
    flat = Stub(lambda images: one.expand(len(images), -1, -1, -1))
    assert neutral_distance(flat, crops).of_neutrals == 0
    assert noise_check(flat).of_neutrals == 0


def test_noise_images_are_uniform():
    # the difference of two uniform numbers has variance 1/6
    assert noise_check(Stub(lambda images: images)).of_inputs == pytest.approx(np.sqrt(3 * 64 * 64 / 6), rel=0.01)
    assert noise_check(Stub(lambda images: images)).of_inputs != noise_check(Stub(lambda images: images), 1).of_inputs


def test_real_networks(crops):
    networks = build_networks(LIGHT, 0)
    first = neutral_distance(networks, crops)
    assert first == neutral_distance(networks, crops)  # no noise unless asked for
    assert first.of_neutrals > 0
    images = plain(torch.from_numpy(crops))
    with torch.inference_mode():
        flow = networks.flow_decoder(networks.encoder(images[17:18]))
        expected = networks.generator(images[17:18], flow)
    torch.testing.assert_close(neutral_faces(networks, images)[17:18], expected, atol=1e-4, rtol=1e-4)


def test_noise_of_the_published_generator_is_passed_on():
    networks = build_networks(Design(stem="learned", perceptual="none", init="he"), 0)
    images = torch.rand(2, 3, 64, 64)
    plainly, noisy, again = (
        neutral_faces(networks, images, *noise) for noise in ((), (seeded_noise(1),), (seeded_noise(1),))
    )
    assert not torch.equal(plainly, noisy)
    assert torch.equal(noisy, again)
