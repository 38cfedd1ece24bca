"""The task of the published approaches: its batches, its loss, and that it learns."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from psm_adapt.config import TrainSettings
from psm_adapt.data.augment import plain
from psm_adapt.data.store import CropStore
from psm_adapt.networks.noise import NO_NOISE, seeded_noise
from psm_adapt.objective import cycle_terms
from psm_adapt.train.cycle import CycleBatch, CycleTask, Faces
from psm_adapt.train.folder import RunFolder, read_losses
from psm_adapt.train.loop import Job, train
from psm_adapt.train.progress import Teller
from psm_adapt.train.start import Start, start_of
from psm_adapt.train.world import World
from psm_stream.errors import TrainingError

Make = Callable[..., TrainSettings]
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def start() -> Start:
    """Networks for tests that do not change them."""
    return start_of(
        TrainSettings.model_validate({"design": {"generator": "light", "stem": "learned", "perceptual": "none"}})
    )


def _task(start: Start, store: CropStore, settings: TrainSettings, world: World = ALONE) -> CycleTask:
    people = ("anna",) if settings.approach.startswith("psm") else ("anna", "ben")
    return CycleTask(start, Faces(store, people), settings, world)


def _images(batches: list[CycleBatch]) -> list[torch.Tensor]:
    return [torch.cat([batch.a, batch.b]) for batch in batches]


def test_batches_depend_on_seed_and_place_alone(start: Start, small_store: CropStore, settings: Make) -> None:
    task, again = (_task(start, small_store, settings()) for _ in range(2))
    assert task.steps(1) == 2  # 9 frames are 4 pairs
    batches = _images(list(task.batches(2, 0)))
    torch.rand(3)
    assert torch.equal(_images(list(again.batches(2, 1)))[0], batches[1])
    assert not torch.equal(_images(list(task.batches(3, 1)))[0], batches[1])
    other = _task(start, small_store, settings(run={"seed": 3}))
    assert not torch.equal(_images(list(other.batches(2, 0)))[0], batches[0])
    assert batches[0].shape == (4, 3, 64, 64)


def test_the_shares_of_two_processes_are_the_batch_of_one(start: Start, small_store: CropStore, settings: Make) -> None:
    chosen = settings("gm", pairs={"per_track": 4})
    whole = list(_task(start, small_store, chosen).batches(1, 0))
    shares = [
        list(_task(start, small_store, chosen, World(rank, 2, torch.device("cpu"))).batches(1, 0)) for rank in (0, 1)
    ]
    assert len(whole) == len(shares[0]) == len(shares[1]) == 4
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch.a, torch.cat([first.a, second.a]))
        assert torch.equal(batch.b, torch.cat([first.b, second.b]))
        assert len({batch.seed, second.seed}) == 2  # their noise differs


def test_half_of_the_gm_pairs_are_mirror_images(start: Start, small_store: CropStore, settings: Make) -> None:
    task = _task(start, small_store, settings("gm", pairs={"per_track": 32}))
    mirrored = [
        torch.equal(b, a.flip(-1)) for batch in task.batches(1, 0) for a, b in zip(batch.a, batch.b, strict=True)
    ]
    assert len(mirrored) == 64
    assert 16 <= sum(mirrored) <= 48
    psm = _task(start, small_store, settings("psm"))
    assert not any(torch.equal(batch.b, batch.a.flip(-1)) for batch in psm.batches(1, 0))


def test_pairs_stay_within_a_person_and_augmentation_stays_near_the_crop(
    start: Start, small_store: CropStore, settings: Make
) -> None:
    rows = small_store.rows(("anna",))
    crops = plain(small_store.images(rows)).flatten(1)
    mirrored = plain(small_store.images(rows)).flip(-1).flatten(1)
    seen = set()
    for batch in _task(start, small_store, settings("psm")).batches(1, 0):
        for image in (*batch.a.flatten(1), *batch.b.flatten(1)):
            likeness = torch.corrcoef(torch.cat([image[None], crops, mirrored]))[0, 1:].reshape(2, -1).amax(0)
            assert float(likeness.max()) > 0.3  # noise images, cut by some pixels; any other one is near 0
            seen.add(int(likeness.argmax()))
    assert len(seen) == 8  # each frame once, but for the odd one


def test_the_neutral_weight_goes_along_with_the_epochs(start: Start, small_store: CropStore, settings: Make) -> None:
    task = _task(start, small_store, settings(loss={"neutral_weight": [1.0, 0.2], "ssim": 3}, run={"epochs": 5}))
    weights = [next(task.batches(epoch, 0)).weights for epoch in (1, 3, 5)]
    assert [weight.neutral for weight in weights] == pytest.approx([1.0, 0.6, 0.2])
    assert {(w.ssim, w.pixel, w.perceptual, w.symmetry) for w in weights} == {(3, 1, 0.01, 1.5)}


def test_the_loss_is_the_published_one_with_this_steps_noise(
    start: Start, small_store: CropStore, settings: Make
) -> None:
    for noise in (True, False):
        task = _task(start, small_store, settings(loss={"noise": noise}))
        batch = next(task.batches(1, 0))
        with torch.no_grad():
            given = task.loss(batch)
            source = seeded_noise(batch.seed) if noise else NO_NOISE
            expected = cycle_terms(start.networks, None, batch.a, batch.b, weights=batch.weights, noise=source)
        assert set(given) == {"pixel", "perceptual", "ssim", "symmetry", "total"}
        assert {name: float(value) for name, value in given.items()} == {
            name: float(value) for name, value in expected.named().items()
        }


def test_too_few_frames_are_told_at_once(start: Start, small_store: CropStore, settings: Make) -> None:
    chosen = settings(run={"batch_size": 16})
    with pytest.raises(TrainingError, match=r"^anna: 4 pairs are fewer .* set run\.batch_size to 4 or less"):
        _task(start, small_store, chosen)


def test_what_a_checkpoint_says(start: Start, small_store: CropStore, settings: Make) -> None:
    about = _task(replace(start, parent="0123456789ab"), small_store, settings()).about()
    assert (about.person, about.parent, about.licence) == ("anna", "0123456789ab", "unknown")
    assert about.training == {"store": small_store.store_id, "people": ["anna"], "frames": 9}
    assert _task(start, small_store, settings("gm")).about().person is None


def test_preview_and_probe(start: Start, small_store: CropStore, settings: Make) -> None:
    task = _task(start, small_store, settings())
    with torch.no_grad():
        preview, probe = task.preview(), task.probe()
    assert list(preview.columns) == ["input", "neutral", "warped", "reconstruction"]
    for images in preview.columns.values():
        assert images.shape == (8, 3, 64, 64)
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
    assert probe.codes is not None
    assert probe.codes.shape == (9, 256)


@pytest.mark.timeout(300)
def test_it_learns_two_pairs_by_heart(small_store: CropStore, settings: Make, tmp_path: Path) -> None:
    chosen = settings(
        data={"people": ["cleo"]},
        pairs={"redraw": False},
        run={"epochs": 12, "batch_size": 1, "precision": "auto", "preview_every": 100},
        optimiser={"schedule": "constant", "lr": 1e-3},
    )
    task = CycleTask(start_of(chosen), Faces(small_store, ("cleo",)), chosen, ALONE)
    train(task, Job(chosen.optimiser, chosen.run, {}, RunFolder(tmp_path, False), ALONE, Teller(True)))
    totals = [row.terms["total"] for row in read_losses(tmp_path)]
    assert np.mean(totals[-3:]) < 0.95 * np.mean(totals[:3])
