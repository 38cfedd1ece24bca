"""Training the general model: stores, lesson and networks put together, and handed to the training loop."""

from __future__ import annotations

from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.data.store import open_store
from psm_adapt.general.faces import FacePool
from psm_adapt.general.lesson import Weights, learn_lesson
from psm_adapt.general.settings import GeneralSettings
from psm_adapt.general.task import GeneralTask
from psm_adapt.networks.design import Networks, build_networks
from psm_adapt.train.folder import RunFolder
from psm_adapt.train.loop import Job, Outcome, train
from psm_adapt.train.progress import Teller
from psm_adapt.train.world import World, join
from psm_stream.errors import ConfigError


def train_general(settings: GeneralSettings, goes_on: bool = False, quiet: bool = False) -> Outcome:
    """Train by the settings into their folder `out`. goes_on: from what is there.

    Raises ConfigError: no store is named. StoreError, CheckpointError, TrainingError: as the parts do.
    """
    with join(settings.run.device) as world, Teller(quiet or not world.is_first) as teller:
        task = build_task(settings, world)
        tree = settings.model_dump(mode="json")
        folder = RunFolder(settings.out, settings.run.tensorboard)
        if world.is_first:
            folder.make(tree, settings.out, tree)
        return train(task, Job(settings.optimiser, settings.run, tree, folder, world, teller, goes_on))


def build_task(settings: GeneralSettings, world: World) -> GeneralTask:
    """Open the stores, learn the lesson, and make or load the networks."""
    if settings.real is None:
        raise ConfigError("real: no crop store of real people is named; make one with psm-adapt crops --landmarker")
    stores = [open_store(path) for path in (settings.real, settings.made) if path is not None]
    pool = FacePool(stores[0], stores[1] if len(stores) > 1 else None, settings.draw.made)
    amounts = settings.lesson
    weights = Weights(amounts.absolute, amounts.change, amounts.shape, amounts.pose)
    return GeneralTask(settings, _networks(settings), pool, learn_lesson(stores, weights, amounts.seed), world)


def _networks(settings: GeneralSettings) -> Networks:
    if settings.start_from is None:
        return build_networks(settings.design, settings.run.seed)
    checkpoint = open_checkpoint(settings.start_from)
    if checkpoint.design == settings.design:
        return checkpoint.networks()
    networks = build_networks(settings.design, settings.run.seed)  # another generator: the encoder alone is taken
    networks.encoder.load_state_dict(checkpoint.tensors("encoder"))
    return networks
