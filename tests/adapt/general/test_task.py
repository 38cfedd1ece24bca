"""The general task: what it asks for, and that it learns."""

import numpy as np
import pytest
import torch

from psm_adapt.data.store import CropStore
from psm_adapt.general.faces import FacePool
from psm_adapt.general.lesson import learn_lesson
from psm_adapt.general.settings import GeneralSettings, ObjectiveSettings
from psm_adapt.general.task import GeneralTask
from psm_adapt.networks.design import build_networks
from psm_adapt.train.world import World


def task_of(real: CropStore, made: CropStore | None = None, batch_size: int = 6, **objective: float) -> GeneralTask:
    settings = GeneralSettings(objective=ObjectiveSettings(**objective))
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"batch_size": batch_size})})
    stores = [real] if made is None else [real, made]
    pool = FacePool(real, made, 0.5)
    networks = build_networks(settings.design, 0)
    return GeneralTask(settings, networks, pool, learn_lesson(stores), World(0, 1, torch.device("cpu")))


def test_one_batch_can_be_learned(real: CropStore, made: CropStore) -> None:
    torch.manual_seed(0)
    task = task_of(real, made)
    batch = next(task.batches(1, 0))
    optimiser = torch.optim.Adam(task.networks.encoder.parameters(), 3e-4)
    losses = []
    for _ in range(25):
        terms = task.loss(batch)
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        losses.append(float(terms["total"].detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_a_step_depends_on_seed_epoch_and_number_alone(real: CropStore, made: CropStore) -> None:
    task = task_of(real, made)
    steps = task.batches(2, 0)
    next(steps)
    second = next(steps)
    again = next(task.batches(2, 1))
    other = next(task.batches(3, 1))
    assert torch.equal(second.images, again.images)
    assert not torch.equal(second.images, other.images)
    assert torch.equal(second.values.nan_to_num(), again.values.nan_to_num())


def test_values_are_those_of_the_faces_shown_mirrored_or_not(real: CropStore) -> None:
    task = task_of(real)
    step = next(task.batches(1, 0))
    both = torch.cat([task.lesson.values, task.lesson.mirrored])
    for values in step.values:
        assert (both == values).all(1).any()


def test_values_that_are_not_known_teach_nothing(real: CropStore, made: CropStore) -> None:
    task = task_of(real, made)
    codes = torch.zeros(2, 256, requires_grad=True)
    values = torch.full((2, len(task.lesson.names)), torch.nan)
    values[0, 0] = 1.0
    taught, leftover = task._taught(codes, values)
    (gradient,) = torch.autograd.grad(taught, codes)
    assert gradient[1].abs().max() == 0
    assert gradient[0].abs().max() > 0
    assert float(leftover.detach()) == 0


def test_what_has_no_weight_is_not_computed_and_a_frozen_encoder_does_not_learn(real: CropStore) -> None:
    task = task_of(real, teacher=0.0, leftover=0.0, cycle=1.0, encoder_lr=0.0)
    terms = task.loss(next(task.batches(1, 0)))
    assert set(terms) == {"cycle", "total"}
    terms["total"].backward()
    assert all(weight.grad is None for weight in task.networks.encoder.parameters())
    assert all(weight.grad is not None for weight in task.networks.flow_decoder.parameters())
    assert set(task.preview().columns) == {"input", "neutral", "warped", "reconstruction"}
    assert set(task_of(real).loss(next(task_of(real).batches(1, 0)))) == {"teacher", "leftover", "total"}


def test_ranking_sees_whole_sequences(real: CropStore) -> None:
    task = task_of(real, teacher=0.0, ranking=1.0)
    step = next(task.batches(1, 0))
    assert len(step.images) == 12
    assert float(task.loss(step)["ranking"].detach()) > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_of_the_teacher_is_what_the_lesson_reads(real: CropStore, seed: int) -> None:
    task = task_of(real)
    codes = torch.randn(4, 256, generator=torch.Generator().manual_seed(seed))
    values = task.lesson.values[:4]
    read, weights = task.lesson.read(codes).numpy(), (task.lesson.weights * task.lesson.scale).numpy()
    apart = np.abs(read - values.numpy())
    huber = np.where(apart < 1, 0.5 * apart**2, apart - 0.5)
    wanted = (huber * weights**2).sum() / (4 * (weights**2).sum())
    taught, leftover = task._taught(codes, values)
    assert float(taught) == pytest.approx(wanted, rel=1e-4)
    assert float(leftover) == pytest.approx(float(task.lesson.leftover(codes)), rel=1e-4)
