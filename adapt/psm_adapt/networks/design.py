"""What a model is made of: a few choices, written into each checkpoint, and the networks built from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from psm_adapt.networks.blocks import init_he_linear
from psm_adapt.networks.flow_decoder import FlowDecoder
from psm_adapt.networks.generator import Generator
from psm_adapt.networks.light_generator import LightGenerator
from psm_adapt.networks.normaliser import Normaliser
from psm_adapt.networks.random_features import RandomFeatures
from psm_adapt.networks.vgg import Vgg19
from psm_adapt.networks.vgg19_weights import Vgg19Weights
from psm_export.networks.facecycle import Encoder
from psm_stream.errors import ConfigError


class Design(BaseModel):
    """The choices that decide which networks there are, and what they are taught with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: Literal["facecycle", "light"] = "facecycle"
    """facecycle: the published generator. light: a small one for adaptation on a CPU."""
    stem: Literal["vgg19", "learned"] = "vgg19"
    """The generator's first layers. vgg19: ImageNet weights, frozen, as published. learned: they start at random and
    learn; needs no download. The light generator has a learned stem only."""
    perceptual: Literal["vgg19", "random", "none"] = "vgg19"
    """What the perceptual loss looks through. vgg19: as published. random: fixed random filters at three scales, drawn
    from a seed; needs no download. none: no perceptual loss."""
    init: Literal["published", "he"] = "published"
    """The encoder's linear layers at the start. published: N(0, 0.01), with which a short training learns nothing. he:
    N(0, sqrt(2 / inputs))."""
    identity: bool = False
    """Also the identity encoder and the normaliser, which FaceCycle's second stage trains."""
    perceptual_seed: int = Field(default=0, ge=0)
    """Which random filters, for `perceptual: random`."""

    @model_validator(mode="after")
    def _light_learns_its_stem(self) -> Design:
        if self.generator == "light" and self.stem != "learned":
            raise ValueError("generator light has no VGG19 stem; set stem: learned")
        return self

    @property
    def needs_vgg19(self) -> bool:
        """Whether training a new model of this design needs VGG19's weights."""
        return "vgg19" in (self.stem, self.perceptual)


class Networks(nn.Module):
    """Encoder, flow decoder and generator, and the identity stage's networks where the design has them.

    Weights are PyTorch's default ones or the authors' initial ones, from the global random state; to make a model, call
    `build_networks`, and to fill one from a file, `empty_networks`.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        frozen = design.stem == "vgg19"
        self.design = design
        self.encoder = Encoder()
        self.flow_decoder = FlowDecoder()
        self.generator: Generator | LightGenerator
        self.generator = LightGenerator() if design.generator == "light" else Generator(frozen)
        self.identity_encoder = Encoder() if design.identity else None
        self.normaliser = Normaliser(frozen) if design.identity else None

    def parts(self) -> dict[str, nn.Module]:
        """The networks by name: encoder, flow_decoder, generator, and identity_encoder, normaliser if there are any."""
        return dict(self.named_children())

    def trained(self) -> Iterator[nn.Parameter]:
        """What the expression stage trains, in the authors' order: generator, encoder, flow decoder; no frozen stem."""
        for network in (self.generator, self.encoder, self.flow_decoder):
            yield from (weight for weight in network.parameters() if weight.requires_grad)


def build_networks(design: Design, seed: int, vgg19: Vgg19Weights | None = None) -> Networks:
    """Make a model to be trained. The same seed gives the same weights; the global random state stays as it is.

    Args:
        design: What to build.
        seed: Where the initial weights come from.
        vgg19: VGG19's weights, for `stem: vgg19`; see `find_vgg19`.

    Raises ConfigError: the design's stem is VGG19's and no weights were given.
    """
    networks = _seeded(design, seed)
    if design.stem == "vgg19":
        if vgg19 is None:
            raise ConfigError("stem: vgg19 needs VGG19's weights; give their file (vgg19: PATH) or set stem: learned")
        for network in (networks.generator, networks.normaliser):
            if network is not None:
                vgg19.fill_stem(network)
    return networks


def build_perceptual(design: Design, vgg19: Vgg19Weights | None = None) -> nn.Module | None:
    """Make the network that the perceptual loss looks through: images to a list of feature maps, frozen.

    vgg19: VGG19's weights, for `perceptual: vgg19`; see `find_vgg19`. Returns None for `perceptual: none`. Raises
    ConfigError: the weights are needed and were not given.
    """
    if design.perceptual == "none":
        return None
    if design.perceptual == "random":
        return RandomFeatures(design.perceptual_seed)
    if vgg19 is None:
        raise ConfigError(
            "perceptual: vgg19 needs VGG19's weights; give their file (vgg19: PATH) or set perceptual: random"
        )
    network = Vgg19()
    network.load_state_dict(vgg19.tensors)
    return network


def empty_networks(design: Design) -> Networks:
    """Make a model whose weights are all about to be loaded from a file; VGG19's come with them."""
    return _seeded(design, 0)


def _seeded(design: Design, seed: int) -> Networks:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = Networks(design)
        if design.init == "he":
            for encoder in (networks.encoder, networks.identity_encoder):
                if encoder is not None:
                    init_he_linear(encoder)
    return networks
