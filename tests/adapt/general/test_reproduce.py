"""From stores to a checkpoint, on stores that are made already."""

import shutil
from pathlib import Path

import pytest
import torch

from psm_adapt.checkpoint import open_checkpoint
from psm_adapt.cli.general import STAGES
from psm_adapt.data.store import CropStore
from psm_adapt.general import settings
from psm_adapt.general.people import People
from psm_adapt.general.reproduce import Recipe, reproduce

CONFIGS = Path(__file__).parents[3] / "configs" / "general"
SMALL = {"run.batch_size": "3", "draw.steps_per_epoch": "2", "run.epochs": "1", "run.tensorboard": "false"}


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        videos=Path("nowhere"),
        people=People(train={"ann": ["a.mp4"]}),
        landmarker=Path("none"),
        stages={name: settings.load(CONFIGS / f"{name}.yaml", SMALL) for name in STAGES},
    )


def test_the_stages_run_once_and_what_is_left_is_in_half_precision(
    tmp_path: Path, real: CropStore, made: CropStore, recipe: Recipe
) -> None:
    torch.set_num_threads(1)
    shutil.copytree(real.folder, tmp_path / "real")
    shutil.copytree(made.folder, tmp_path / "made")
    told: list[str] = []
    assert reproduce(recipe, tmp_path, told.append) == 0
    checkpoint = open_checkpoint(tmp_path / "checkpoint")
    assert checkpoint.about.precision == "fp16"
    assert checkpoint.about.step == 6
    first, second = (open_checkpoint(tmp_path / stage / "last") for stage in ("polish", "decoders"))
    encoder = first.tensors("encoder")
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in second.tensors("encoder").items())
    torgb = [stage.tensors("generator")["torgb.weight"] for stage in (first, second)]
    assert not torch.equal(*torgb)
    half = checkpoint.tensors("encoder")
    assert all(torch.equal(tensor.half().float(), half[name]) for name, tensor in encoder.items())

    before = checkpoint.about
    told.clear()
    assert reproduce(recipe, tmp_path, told.append) == 0
    assert not [line for line in told if "training" in line]
    assert open_checkpoint(tmp_path / "checkpoint").about == before
