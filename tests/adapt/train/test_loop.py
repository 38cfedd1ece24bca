"""The training loop: what it learns, that it can be cut off anywhere, and that it notices what goes wrong."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.adapt.train.toy import STEPS, ToyTask, job, weights

from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.config import OptimiserSettings
from psm_adapt.train.folder import read_losses
from psm_adapt.train.loop import train
from psm_adapt.train.task import Probe
from psm_stream.errors import CheckpointError, TrainingError


@pytest.fixture(autouse=True)
def _curves_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than to train; test_pictures draws some."""
    monkeypatch.setattr(
        "psm_adapt.train.pictures.draw_losses", lambda path, epochs, terms: path.write_text(f"{epochs} {[*terms]}")
    )


def _same(a: ToyTask, b: ToyTask) -> bool:
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def _terms(folder: Path) -> list[tuple[int, int, dict[str, float]]]:
    return [(row.epoch, row.steps, row.terms) for row in read_losses(folder)]


def test_the_loss_falls_on_one_batch(tmp_path: Path) -> None:
    train(ToyTask(one_batch=True), job(tmp_path, epochs=15))
    totals = [row.terms["pixel"] for row in read_losses(tmp_path)]
    assert totals[-1] < 0.5 * totals[0]


def test_two_runs_with_one_seed_are_equal_and_with_another_are_not(tmp_path: Path) -> None:
    tasks = []
    for name, seed in (("a", 2), ("b", 2), ("c", 3)):
        (tmp_path / name).mkdir()
        tasks.append(ToyTask())
        train(tasks[-1], job(tmp_path / name, seed=seed))
        torch.rand(1)  # whatever else draws numbers plays no part
    assert _same(tasks[0], tasks[1])
    assert not _same(tasks[0], tasks[2])  # dropout
    assert _terms(tmp_path / "a") == _terms(tmp_path / "b")


@pytest.mark.parametrize("batches", [1, STEPS, STEPS + 2, 2 * STEPS - 1])
def test_training_that_was_interrupted_and_went_on_is_the_same(tmp_path: Path, batches: int) -> None:
    whole, cut, gone_on = ToyTask(), ToyTask(interrupt_at=batches), ToyTask()
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    train(whole, job(tmp_path / "whole"))
    before = signal.getsignal(signal.SIGINT)
    interrupted = train(cut, job(tmp_path / "cut"))
    assert signal.getsignal(signal.SIGINT) is before
    assert interrupted.exit_code == 130
    assert interrupted.steps == batches + 1  # the step in hand is finished
    with torch.no_grad():
        for parameter in gone_on.module.parameters():
            parameter.zero_()  # nothing of the new task's own weights is left
    outcome = train(gone_on, job(tmp_path / "cut", goes_on=True))
    assert (outcome.exit_code, outcome.steps) == (0, 2 * STEPS)
    assert _same(whole, gone_on)
    assert _terms(tmp_path / "whole") == _terms(tmp_path / "cut")


def test_more_epochs_later_are_the_same_as_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    at_once, later = ToyTask(), ToyTask()
    train(at_once, job(tmp_path / "a", epochs=3))
    train(ToyTask(), job(tmp_path / "b", epochs=2))
    train(later, job(tmp_path / "b", goes_on=True, epochs=3))
    assert _same(at_once, later)


def test_a_power_cut_in_a_long_epoch_costs_what_came_after_the_last_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, gone_on = ToyTask(), ToyTask()
    train(whole, job(tmp_path / "whole"))
    monkeypatch.setattr("psm_adapt.train.loop.SAVE_S", -1.0)  # due after each step
    with pytest.raises(TrainingError):
        train(ToyTask(spoil={STEPS + 2: "pixel"}), job(tmp_path / "cut"))
    assert open_checkpoint(tmp_path / "cut/last").about.step == STEPS + 2
    train(gone_on, job(tmp_path / "cut", goes_on=True))
    assert _same(whole, gone_on)
    assert _terms(tmp_path / "whole") == _terms(tmp_path / "cut")


def test_losses_beyond_the_last_checkpoint_are_dropped_when_training_goes_on(tmp_path: Path) -> None:
    train(ToyTask(), job(tmp_path, epochs=1))
    with (tmp_path / "losses.jsonl").open("a") as file:  # the process died in the third epoch
        file.write(json.dumps({"epoch": 2, "steps": 8, "rate": 1, "seconds": 1, "terms": {}}) + "\n" + '{"epo')
    train(ToyTask(), job(tmp_path, goes_on=True, epochs=2))
    assert [row.epoch for row in read_losses(tmp_path)] == [1, 2]
    assert read_losses(tmp_path)[1].terms["total"] > 0


def test_what_is_left_in_the_folder(tmp_path: Path) -> None:
    train(ToyTask(), job(tmp_path, epochs=3, checkpoint_every=2, preview_every=2, tensorboard=True))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["epoch_0002", "epoch_0003"]
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == ["epoch_0002.png", "epoch_0003.png"]
    with Image.open(tmp_path / "preview.png") as image:
        assert image.width > 30
    assert (tmp_path / "loss.png").read_text() == "[1, 2, 3] ['colour', 'flow', 'pixel', 'total', 'gradient']"
    assert (tmp_path / "preview.png").read_bytes() == (tmp_path / "previews/epoch_0003.png").read_bytes()
    assert any((tmp_path / "tensorboard").iterdir())
    about = open_checkpoint(tmp_path / "last").about
    assert (about.epoch, about.step) == (3, 3 * STEPS)
    assert about.training["settings"] == {"a": 1}
    assert about.model_id == open_checkpoint(tmp_path / "checkpoints/epoch_0003").about.model_id
    assert not list(tmp_path.rglob(".*"))


def test_tensorboard_shows_losses_and_previews(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(ToyTask(), job(tmp_path, tensorboard=True))
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert {"loss/pixel", "loss/total", "loss/gradient", "learning rate"} <= set(shown.Tags()["scalars"])
    assert [scalar.step for scalar in shown.Scalars("loss/total")] == [STEPS, 2 * STEPS]
    assert shown.Tags()["images"] == ["preview"]


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("pixel", r"^loss 'pixel' is nan at step 7 \(epoch 2, learning rate 0\.01\); try a lower optimiser\.lr"),
        ("colour", r"^loss 'colour' is nan at step 7"),
        ("gradient", r"^the gradient of networks\.encoder\.1\.weight is nan at step 7"),
    ],
)
def test_what_is_not_finite_is_named_and_the_last_checkpoint_stays(tmp_path: Path, term: str, says: str) -> None:
    task = ToyTask(spoil={STEPS + 2: term})
    with pytest.raises(TrainingError, match=says) as caught:
        train(task, job(tmp_path, checkpoint_every=1))
    assert str(caught.value).endswith(f"the last good checkpoint is {tmp_path / 'last'}")
    assert "\n" not in str(caught.value)
    assert open_checkpoint(tmp_path / "last").about.epoch == 1
    assert all(torch.isfinite(value).all() for value in weights(task).values())  # the step was not made


def test_what_is_not_finite_before_anything_was_saved(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nothing was saved yet$"):
        train(ToyTask(spoil={0: "flow"}), job(tmp_path))


class Collapsing(ToyTask):
    """Its codes are the same for every image."""

    def probe(self) -> Probe:
        return Probe(codes=super().probe().codes[:1].expand(8, 16))


def test_a_collapse_is_an_error_a_warning_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("error", "warn", "off", "short"):
        (tmp_path / name).mkdir()
    with pytest.raises(TrainingError, match=r"^collapsed by epoch 26: the codes are the same for every face") as caught:
        train(Collapsing(), job(tmp_path / "error", epochs=30))  # 4 steps each, 100 after the first look
    assert str(caught.value).endswith(f"the last good checkpoint is {tmp_path / 'error/last'}")
    assert train(Collapsing(), job(tmp_path / "short", epochs=25)).epochs == 25
    assert capsys.readouterr().err == ""
    assert train(Collapsing(), job(tmp_path / "warn", epochs=27, collapse="warn")).epochs == 27
    assert capsys.readouterr().err.count("warning: collapsed by epoch") == 2
    assert train(Collapsing(), job(tmp_path / "off", epochs=27, collapse="off")).epochs == 27
    assert capsys.readouterr().err == ""


def test_clipped_gradients_make_smaller_steps(tmp_path: Path) -> None:
    moved = {}
    for limit in (None, 1e-9):
        (tmp_path / str(limit)).mkdir()
        task = ToyTask()
        start = task.networks.encoder[1].weight.detach().clone()
        settings = OptimiserSettings(schedule="constant", lr=1e-2, clip_norm=limit)
        train(task, replace(job(tmp_path / str(limit), epochs=1), optimiser=settings))
        moved[limit] = float((task.networks.encoder[1].weight.detach() - start).abs().max())
    assert moved[1e-9] < 0.3 * moved[None]  # Adam's epsilon of 1e-8 holds steps back once gradients are smaller


def test_groups_have_rates_of_their_own(tmp_path: Path) -> None:
    task = ToyTask(has_head=False)
    start = weights(task)
    train(task, job(tmp_path, epochs=1))
    moved = {name: (value - start[name]).abs().mean() for name, value in weights(task).items()}
    # Adam's first steps are about the rate, whatever the gradient
    assert 1.4 < float(moved["head.0.weight"] / moved["networks.generator.0.weight"]) < 2.6


def test_there_must_be_something_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint folder"):
        train(ToyTask(), job(tmp_path, goes_on=True))


def test_a_changed_state_is_refused(tmp_path: Path) -> None:
    train(ToyTask(), job(tmp_path, epochs=1))
    with pytest.raises(CheckpointError, match=r"head\.1\.\S+ is missing, unknown or of another shape"):
        train(ToyTask(has_head=False), job(tmp_path, goes_on=True))
    tensors = tmp_path / "last/resume/training.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="was changed or cut off"):
        train(ToyTask(), job(tmp_path, goes_on=True))
