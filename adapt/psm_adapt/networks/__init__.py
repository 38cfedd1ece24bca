"""The networks of FaceCycle and PSM, parameter for parameter, and a small generator for adaptation on a CPU."""

from psm_adapt.networks.design import Design, Networks, build_networks, build_perceptual, empty_networks
from psm_adapt.networks.flow_decoder import FlowDecoder
from psm_adapt.networks.generator import Generator
from psm_adapt.networks.light_generator import LightGenerator
from psm_adapt.networks.noise import NO_NOISE, Noise, seeded_noise
from psm_adapt.networks.normaliser import Normaliser
from psm_adapt.networks.random_features import RandomFeatures
from psm_adapt.networks.vgg import Vgg19
from psm_adapt.networks.vgg19_weights import Vgg19Weights, find_vgg19
from psm_adapt.networks.warp import back_flow, warp, warp_image

__all__ = [
    "NO_NOISE",
    "Design",
    "FlowDecoder",
    "Generator",
    "LightGenerator",
    "Networks",
    "Noise",
    "Normaliser",
    "RandomFeatures",
    "Vgg19",
    "Vgg19Weights",
    "back_flow",
    "build_networks",
    "build_perceptual",
    "empty_networks",
    "find_vgg19",
    "seeded_noise",
    "warp",
    "warp_image",
]
