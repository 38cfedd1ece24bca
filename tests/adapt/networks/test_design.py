"""Designs become networks: the authors' parameters one for one, by seed, with the weights that were asked for."""

import pytest
import torch
from pydantic import ValidationError
from tests.adapt.golden import FOLDER

from psm_adapt.networks import Design, RandomFeatures, Vgg19, build_networks, build_perceptual, empty_networks
from psm_adapt.networks.vgg import STEM
from psm_adapt.networks.vgg19_weights import Vgg19Weights
from psm_export import facecycle
from psm_stream.errors import ConfigError

FAITHFUL = Design(identity=True)
LIGHT = Design(generator="light", stem="learned", perceptual="random")
PUBLISHED = {
    "codegeneration": ("encoder", 4_240_000, 48),
    "exptoflow": ("flow_decoder", 2_996_544, 31),
    "Swap_Generator": ("generator", 13_409_475, 62),
    "idcodegen": ("identity_encoder", 4_240_000, 48),
    "Swap_Norm": ("normaliser", 10_014_275, 54),
}
"""The authors' name, ours, parameters, tensors."""


@pytest.mark.parametrize("theirs", PUBLISHED)
def test_networks_have_the_published_size(theirs: str) -> None:
    ours, parameters, tensors = PUBLISHED[theirs]
    state = empty_networks(FAITHFUL).parts()[ours].state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == parameters
    assert len(state) == tensors


def test_keys_and_shapes_are_the_published_ones_in_their_order() -> None:
    listing = FOLDER.parent / "spec" / "facecycle-keys.txt"
    if not listing.is_file():
        pytest.skip(f"no listing at {listing}; set PSM_GOLDEN to the folder beside spec/")
    wanted: dict[str, list[str]] = {}
    net = ""
    for line in listing.read_text().splitlines():
        if line.startswith("    "):
            wanted[net].append(line.strip())
        elif not line.startswith("#"):
            net = line.split()[0]
            wanted[net] = []
    parts = empty_networks(FAITHFUL).parts()
    for net, lines in wanted.items():
        state = parts[PUBLISHED[net][0]].state_dict()
        assert [f"{key} {tuple(tensor.shape)}" for key, tensor in state.items()] == lines


def test_the_encoder_is_the_one_that_is_exported() -> None:
    state = empty_networks(LIGHT).encoder.state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == facecycle.weight_shapes()


def test_a_seed_gives_the_same_weights_and_leaves_the_global_random_state() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (build_networks(LIGHT, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["encoder.conv1.0.weight"], other["encoder.conv1.0.weight"])


def test_he_makes_codes_that_are_not_near_zero() -> None:
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    published, he = (build_networks(LIGHT.model_copy(update={"init": init}), 0) for init in ("published", "he"))
    with torch.no_grad():
        assert float(published.encoder(images).abs().mean()) < 0.05
        assert float(he.encoder(images).abs().mean()) > 0.2


def test_vgg19_is_copied_into_stems_and_frozen(vgg19: Vgg19Weights) -> None:
    networks = build_networks(FAITHFUL, 0, vgg19)
    for network in (networks.generator, networks.normaliser):
        assert network is not None
        for name, weight in network.named_parameters():
            is_stem = name.split(".")[0] in STEM
            assert weight.requires_grad != is_stem
            if is_stem:
                assert torch.equal(weight, vgg19.tensors[name])
    trained = sum(weight.numel() for weight in networks.generator.parameters() if weight.requires_grad)
    assert trained == 12_854_147


def test_a_learned_stem_is_trained() -> None:
    networks = build_networks(Design(stem="learned", perceptual="none"), 0)
    assert sum(weight.numel() for weight in networks.trained()) == 13_409_475 + 4_240_000 + 2_996_544


def test_training_is_in_the_authors_order() -> None:
    networks = build_networks(LIGHT.model_copy(update={"identity": True}), 0)
    parts = (networks.generator, networks.encoder, networks.flow_decoder)
    assert [id(weight) for weight in networks.trained()] == [
        id(weight) for part in parts for weight in part.parameters()
    ]


def test_missing_vgg19_weights_are_never_replaced_silently() -> None:
    assert FAITHFUL.needs_vgg19
    assert not LIGHT.needs_vgg19
    with pytest.raises(ConfigError, match=r"stem: vgg19 needs .* set stem: learned"):
        build_networks(FAITHFUL, 0)
    with pytest.raises(ConfigError, match=r"perceptual: vgg19 needs .* set perceptual: random"):
        build_perceptual(FAITHFUL)


def test_the_perceptual_network_is_the_one_asked_for(vgg19: Vgg19Weights) -> None:
    looked_through = build_perceptual(FAITHFUL, vgg19)
    assert isinstance(looked_through, Vgg19)
    assert torch.equal(looked_through.conv4_1[0].weight, vgg19.tensors["conv4_1.0.weight"])
    assert isinstance(build_perceptual(LIGHT), RandomFeatures)
    assert build_perceptual(LIGHT.model_copy(update={"perceptual": "none"})) is None


def test_designs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="set stem: learned"):
        Design(generator="light")
    with pytest.raises(ValidationError, match="extra"):
        Design.model_validate({"stems": "learned"})
