"""FaceCycle's encoder as a `Model`: the graph is the hand-written one, the reference is the network in torch."""

from __future__ import annotations

from pathlib import Path

import torch

from psm_export import facecycle
from psm_export.checkpoint import ENCODER, EncoderCheckpoint
from psm_export.facecycle import Weights
from psm_export.model import About, Crops, Model
from psm_export.networks.facecycle import Encoder
from psm_export.sources.architectures import ARCHITECTURES
from psm_export.sources.torch_reference import TorchReference, Values, values_of_layers
from psm_stream.bundle import Alignment


def facecycle_model(weights: Weights, about: About, alignment: Alignment | None = None) -> Model:
    """Make a model of weights by the authors' keys. alignment: None is our crop.

    Raises BundleError: these are not the encoder's weights.
    """
    facecycle.check_weights(weights)
    made = ARCHITECTURES["facecycle-expression-encoder"]
    with torch.random.fork_rng(devices=[]):
        network = Encoder()
    network.load_state_dict({key: torch.from_numpy(tensor.copy()) for key, tensor in weights.items()})
    network.eval().requires_grad_(False)

    @torch.inference_mode()
    def look(crops: Crops) -> Values:
        # convolutions and linear layers have the same names here and in the hand-written graph
        return values_of_layers(network, torch.from_numpy(made.pixels.of(crops)))

    return Model(
        about=about,
        pixels=made.pixels,
        alignment=alignment or made.alignment,
        dimension=facecycle.DIMENSION,
        reference=TorchReference(network, made.pixels, look),
        build=lambda: facecycle.build_model(weights),
    )


def of_checkpoint(checkpoint: EncoderCheckpoint, alignment: Alignment | None = None) -> Model:
    """Make a model of a checkpoint folder, with what the checkpoint says of itself.

    Raises BundleError: these are not the encoder's weights.
    """
    said = checkpoint.about
    untrained = "" if said.is_trained else "UNTRAINED: its weights are as they were drawn"
    about = About(
        name=_name(checkpoint.folder),
        architecture=facecycle.ARCHITECTURE,
        licence=said.licence,
        note="; ".join(filter(None, (untrained, said.note))),
        trained=said.is_trained,
        person=said.person,
        parent=said.parent,
        training_data=said.training_data,
        training={**said.training, "epoch": said.epoch, "step": said.step, "checkpoint": said.model_id},
        made_from={
            "kind": "checkpoint folder",
            "name": _name(checkpoint.folder),
            "checkpoint": said.model_id,
            "sha256": said.files[ENCODER],
        },
    )
    return facecycle_model(checkpoint.weights, about, alignment)


def _name(folder: Path) -> str:
    return folder.resolve().name
