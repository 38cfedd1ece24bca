"""The generators: a flow deforms, no flow copies, noise is seeded, and both have one interface."""

import pytest
import torch
from torch import Tensor

from psm_adapt.networks import NO_NOISE, Design, Generator, LightGenerator, build_networks, seeded_noise, warp_image
from psm_adapt.networks.vgg import Features

FLOW = torch.full((2, 2, 16, 16), 0.2)


@pytest.fixture(scope="module")
def faithful() -> Generator:
    generator = build_networks(Design(stem="learned", perceptual="none"), 0).generator
    assert isinstance(generator, Generator)
    return generator.eval()


@pytest.fixture(scope="module")
def light() -> LightGenerator:
    generator = build_networks(Design(generator="light", stem="learned", perceptual="none"), 0).generator
    assert isinstance(generator, LightGenerator)
    return generator.eval()


@pytest.fixture
def faces() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("which", ["faithful", "light"])
@torch.no_grad()
def test_features_are_kept_and_used_again(which: str, request: pytest.FixtureRequest, faces: Tensor) -> None:
    generator: Generator | LightGenerator = request.getfixturevalue(which)
    features = generator.stem(faces)
    kept = [maps.clone() for maps in features]
    deformed = generator.decode(generator.deform(features, FLOW, NO_NOISE))
    copied = generator.decode(features)
    assert deformed.shape == copied.shape == (2, 3, 64, 64)
    assert torch.equal(deformed, generator(faces, FLOW))
    assert torch.equal(copied, generator(faces))
    assert not torch.allclose(deformed, copied)
    assert all(torch.equal(now, before) for now, before in zip(features, kept, strict=True))
    assert features.near.shape[2:] == (32, 32)
    assert features.far.shape[2:] == (16, 16)


@torch.no_grad()
def test_noise_is_added_with_a_flow_only(faithful: Generator, faces: Tensor) -> None:
    once, twice = (faithful(faces, FLOW, seeded_noise(4)) for _ in range(2))
    assert torch.equal(once, twice)
    assert not torch.equal(once, faithful(faces, FLOW, seeded_noise(5)))
    assert not torch.equal(once, faithful(faces, FLOW))
    assert torch.equal(faithful(faces, None, seeded_noise(4)), faithful(faces))


@torch.no_grad()
def test_without_noise_the_mean_is_added_still(faithful: Generator, faces: Tensor) -> None:
    features = faithful.stem(faces)
    flat = Features(faces, *(maps.mean((2, 3), keepdim=True).expand_as(maps) for maps in features[1:]))
    still = torch.zeros_like(FLOW)
    added = faithful.deform(features, still).near - features.near
    torch.testing.assert_close(added, faithful.noise_encoding1(flat.near), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_light_generator_starts_from_the_warped_image(light: LightGenerator, faces: Tensor) -> None:
    assert sum(weight.numel() for weight in light.parameters()) == 606_168
    apart = (light(faces, FLOW) - warp_image(faces, FLOW)).square().mean().sqrt()
    assert 0 < float(apart) < 0.3
    assert torch.equal(light(faces, FLOW, seeded_noise(1)), light(faces, FLOW))
