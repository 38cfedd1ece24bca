"""Recipes: every file is one, and what is asked for is found or named."""

from pathlib import Path

import pytest

from psm_adapt.adaptation import recipes
from psm_adapt.networks.design import Design
from psm_stream.adaptation.plan import RECIPES
from psm_stream.errors import ConfigError

FILES = sorted(recipes.folder().glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_is_a_recipe(file: Path) -> None:
    found = recipes.find(file.stem, "cpu")
    assert found.name == file.stem
    assert found.recipe == recipes.find(str(file), "cuda").recipe


def test_there_are_those_that_the_documents_name() -> None:
    assert {file.stem for file in FILES} == {"paper", "paper_ctl", "cpu", "gpu"}
    assert {file.stem for file in FILES} | {recipes.AUTO} == set(RECIPES)


def test_auto_goes_by_the_device() -> None:
    assert recipes.find("auto", "cpu").name == "cpu"
    assert recipes.find("auto", "cuda").name == "gpu"


def test_the_papers_recipe_is_the_papers() -> None:
    settings = recipes.find("paper", "cpu").recipe.training(Design(), 2, "MIT")
    assert (settings.run.epochs, settings.run.batch_size, settings.pairing) == (10, 16, "psm")
    assert (settings.optimiser.schedule, settings.optimiser.lr, settings.optimiser.beta1) == ("psm", 8e-5, 0.5)
    assert (settings.loss.pixel, settings.loss.perceptual, settings.loss.symmetry, settings.loss.ssim) == (
        1,
        0.01,
        1.5,
        5,
    )
    assert recipes.find("paper_ctl", "cpu").recipe.training(Design(), 2, "MIT").pairing == "psm_ctl"


def test_overrides_win_and_wrong_ones_name_the_right_key() -> None:
    assert recipes.find("cpu", "cpu", {"run.epochs": "3"}).recipe.run.epochs == 3
    with pytest.raises(ConfigError, match=r"run\.epochs"):
        recipes.find("cpu", "cpu", {"run.epoch": "3"})


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="paper_ctl"):
        recipes.find("papr", "cpu")
