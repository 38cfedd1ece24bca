"""Which runs a command makes, and where."""

from collections.abc import Callable
from pathlib import Path

import pytest

from psm_adapt.config import TrainSettings
from psm_adapt.data.store import CropStore
from psm_adapt.train.runs import people_of, plan
from psm_stream.errors import ConfigError

Make = Callable[..., TrainSettings]


def test_people(small_store: CropStore) -> None:
    assert people_of(["ben", "anna", "ben"], small_store) == ("ben", "anna")
    for everybody in (["All"], ["all"], ["anna", "ALL"]):
        assert people_of(everybody, small_store) == ("anna", "ben", "cleo")
    with pytest.raises(ConfigError, match=r"data\.people: 'bem' is not in .*there is ben"):
        people_of(["bem"], small_store)


def test_psm_trains_each_person_apart_and_gm_all_together(settings: Make, tmp_path: Path) -> None:
    out, people = tmp_path / "out", ("anna", "ben/2")
    psm, gm = (plan(settings(approach), people, goes_on=False) for approach in ("psm_ctl", "gm"))
    assert [(run.folder, run.people) for run in psm] == [(out / "anna", ("anna",)), (out / "ben_2", ("ben/2",))]
    assert [(run.folder, run.people) for run in gm] == [(out, people)]
    (alone,) = plan(settings("psm"), ("anna",), goes_on=False)
    assert (alone.folder, alone.base) == (out, out)
    assert not out.exists()


def test_a_taken_folder_is_not_touched(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    (run,) = plan(settings("gm"), ("anna",), goes_on=False)
    assert run.folder.parent == tmp_path / "out"


def test_going_on_needs_a_checkpoint_of_somebody(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint to go on from"):
        plan(settings("psm"), ("anna", "ben"), goes_on=True)
    state = tmp_path / "out/ben/last/resume/state.json"
    state.parent.mkdir(parents=True)
    state.touch()
    assert [run.goes_on for run in plan(settings("psm"), ("anna", "ben"), goes_on=True)] == [False, True]


def test_a_checkpoint_that_was_about_to_be_replaced_is_put_back(settings: Make, tmp_path: Path) -> None:
    state = tmp_path / "out/.last.old/resume/state.json"
    state.parent.mkdir(parents=True)
    state.touch()
    (run,) = plan(settings("gm"), ("anna",), goes_on=True)
    assert run.goes_on
    assert (tmp_path / "out/last/resume/state.json").exists()
