"""Fine-tuning: equal to a plain loop, equal when repeated, the best epoch kept, the budget held."""

from pathlib import Path

import pytest
import torch

from psm_adapt.adaptation.recipes import Recipe
from psm_adapt.adaptation.snapshot import SnapshotFaces, load_snapshot, split
from psm_adapt.adaptation.tuning import Progress, tune
from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.general.shipped import general_checkpoint
from psm_adapt.networks.design import Networks
from psm_adapt.train.cycle import CycleTask
from psm_adapt.train.start import Start
from psm_adapt.train.world import World
from psm_stream.errors import TrainingError

CPU = torch.device("cpu")


def recipe(**run: object) -> Recipe:
    return Recipe.model_validate({"run": {"epochs": 2, "batch_size": 6, "precision": "fp32", **run}})


def task_of(demo_snapshot: Path, chosen: Recipe, seed: int = 5) -> CycleTask:
    snapshot = load_snapshot(demo_snapshot)
    checkpoint = open_checkpoint(general_checkpoint())
    start = Start(checkpoint.networks(), None, "none", "learned")
    faces = SnapshotFaces(snapshot, split(snapshot).train[:25], "ann", CPU)  # 12 pairs, two steps an epoch
    return CycleTask(start, faces, chosen.training(checkpoint.design, seed, "MIT"), World(0, 1, CPU))


def weights(networks: Networks) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in networks.state_dict().items()}


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def moved(start: dict[str, torch.Tensor], networks: Networks) -> torch.Tensor:
    return torch.cat([(value - start[name]).flatten() for name, value in networks.state_dict().items()])


def falling() -> object:
    """A validation that finds every epoch better than the last."""
    values = iter(range(100, 0, -1))
    return lambda: float(next(values))


def test_it_is_adam_on_the_published_loss_and_the_same_when_repeated(demo_snapshot: Path) -> None:
    chosen = recipe(epochs=1)
    first, again, plain = (task_of(demo_snapshot, chosen) for _ in range(3))
    tuned = tune(first, chosen, 5, validate=falling(), clock=lambda: 0.0)
    tune(again, chosen, 5, validate=falling(), clock=lambda: 0.0)
    assert are_equal(weights(first.networks), weights(again.networks))

    start = weights(plain.networks)
    plain.networks.train()
    optimiser = torch.optim.Adam(list(plain.networks.parameters()), 8e-5, (0.5, 0.999))
    losses = []
    for batch in plain.batches(1, 0):
        optimiser.zero_grad()
        loss = plain.loss(batch)["total"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert tuned.losses[0] == pytest.approx(sum(losses) / 2, rel=1e-4)
    moves = [moved(start, task.networks) for task in (first, plain)]
    assert torch.nn.functional.cosine_similarity(*moves, dim=0) > 0.98  # where a gradient is 0, its sign is noise
    assert (tuned.epoch, tuned.epochs, tuned.steps) == (1, 1, 2)


def test_shares_learn_from_the_same_pairs(demo_snapshot: Path) -> None:
    alone, shared = recipe(epochs=1), recipe(epochs=1, threads=2)
    one, two = task_of(demo_snapshot, alone), task_of(demo_snapshot, shared)
    results = [
        tune(task, chosen, 5, validate=falling(), clock=lambda: 0.0) for task, chosen in ((one, alone), (two, shared))
    ]
    assert results[0].losses == pytest.approx(results[1].losses, rel=0.02)  # the noise alone is drawn otherwise


@pytest.mark.parametrize(("validation", "best"), [([5, 4, 3], 2), ([5, 3, 4], 1), ([5, 6, 7], 0)])
def test_the_best_epoch_is_kept(demo_snapshot: Path, validation: list[float], best: int) -> None:
    chosen = recipe()
    task = task_of(demo_snapshot, chosen)
    seen, values = [], iter(validation)

    def validate() -> float:
        seen.append(weights(task.networks))
        return next(values)

    tuned = tune(task, chosen, 5, validate=validate, clock=lambda: 0.0)
    assert tuned.epoch == best
    assert tuned.validation == tuple(validation)
    assert are_equal(weights(task.networks), seen[best])
    assert not are_equal(seen[0], seen[1])


def test_it_ends_when_its_time_is_up_and_says_how_far_it_is(demo_snapshot: Path) -> None:
    chosen = recipe(epochs=5, budget_s=25)
    task = task_of(demo_snapshot, chosen)
    now, told = [0.0], list[Progress]()

    def tell(progress: Progress) -> None:
        told.append(progress)
        now[0] += 10  # a step takes 10 s

    tuned = tune(task, chosen, 5, validate=falling(), clock=lambda: now[0], tell=tell)
    assert (tuned.epochs, tuned.steps) == (1, 3)
    assert tuned.epoch == 1
    assert "25 s" in tuned.why
    assert [(at.epoch, at.step, at.steps) for at in told] == [(1, 1, 10), (1, 2, 10), (2, 3, 10)]
    assert [at.left_s for at in told[1:]] == [15, 5]  # 80 and 70 s of steps, but the budget ends before
    again = task_of(demo_snapshot, chosen)
    tune(again, recipe(epochs=5, stop_after=1), 5, validate=falling(), clock=lambda: 0.0)
    assert are_equal(weights(again.networks), weights(task.networks))  # as a rerun stops, however long it takes


def test_a_loss_that_is_not_finite_is_an_error(demo_snapshot: Path) -> None:
    chosen = recipe()
    task = task_of(demo_snapshot, chosen)
    with torch.no_grad():
        next(iter(task.networks.encoder.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match="nan"):
        tune(task, chosen, 5, validate=falling(), clock=lambda: 0.0)
