"""People and their models, found by name."""

import shutil
from pathlib import Path

import pytest
from tests.stream.people_models import a_model, kept

from psm_stream import people
from psm_stream.bundle import EncoderBundle, general_bundle, open_bundle
from psm_stream.config import load
from psm_stream.errors import AdaptationError, BundleError, ConfigError
from psm_stream.people import (
    base_named,
    base_of,
    everyone,
    home,
    lineage,
    model_of,
    newest_model,
    numbers,
    open_newest,
    readable,
)
from psm_stream.people_keep import delete
from psm_stream.startup import _bundle


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_home_is_where_the_user_says(psm_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == psm_home
    monkeypatch.delenv("PSM_HOME")
    assert home().name == "psm-stream"
    assert home().is_absolute()


def test_nobody_and_nothing_yet(psm_home: Path) -> None:
    assert newest_model("ada") is None
    assert everyone() == []
    (psm_home / "people" / "ada" / "001").mkdir(parents=True)  # made, and its manifest not written yet
    assert newest_model("ada") is None
    assert everyone() == []


def test_the_newest_whole_model_wins(psm_home: Path) -> None:
    a_model(psm_home / "people" / "ada" / "001")
    newest = a_model(psm_home / "people" / "ada" / "012")
    (psm_home / "people" / "ada" / "013").mkdir()
    a_model(psm_home / "people" / "bob" / "020")
    assert newest_model("ada") == newest
    assert everyone() == ["ada", "bob"]


def test_numbers_are_compared_as_numbers_and_names_are_none(psm_home: Path) -> None:
    a_model(psm_home / "people" / "ada" / "999")
    newest = a_model(psm_home / "people" / "ada" / "1000")
    for name in ("backup", "\u00b9\u00b2", "1001.partial"):
        a_model(psm_home / "people" / "ada" / name)
    assert newest_model("ada") == newest
    assert numbers("ada") == [999, 1000]


def test_a_model_is_found_by_name(tmp_path: Path) -> None:
    first, second = (kept(tmp_path, "ada", letter * 12) for letter in "ab")
    assert base_named("person:ada") == str(second)
    assert base_named("person:ada/001") == base_named("person:ada/1") == str(first)
    assert base_named("some/folder") == "some/folder"
    for base, why in (
        ("person:eda", "no models of 'eda'.*did you mean ada"),
        ("person:ada/003", "ada has no model 003; there are 001, 002"),
        ("person:ada/newest", "a model is named by its number, as in person:ada/003"),
        ("person:", "no models of ''"),
        ("person:../people/ada", "is named by its number"),
        ("person:../ada", "is named by its number"),
        ("person:..", "no models of"),
    ):
        with pytest.raises(ConfigError, match=why):
            base_named(base)
    shutil.rmtree(second / "checkpoint")
    with pytest.raises(AdaptationError, match="holds no checkpoint/, so nothing can start from it"):
        base_named("person:ada")


def test_the_live_path_takes_a_model_by_name(tmp_path: Path) -> None:
    first, second = (kept(tmp_path, "ada", letter * 12) for letter in "ab")
    for chosen, folder in (({"encoder.model": "person:ada/001"}, first), ({"person": "ada"}, second)):
        assert _bundle(load(None, chosen)).folder == folder


def test_what_a_bundle_is_trained_on_from(tmp_path: Path) -> None:
    assert base_of(open_bundle(general_bundle())) == "general"
    copy = shutil.copytree(general_bundle(), tmp_path / "copy")
    assert base_of(open_bundle(copy)) == "general"
    folder = kept(tmp_path, "ada", "a" * 12)
    assert base_of(open_bundle(folder)) == str(folder)
    assert base_of(EncoderBundle(tmp_path / "out-ada-aaaaaaaaaaaa" / "bundle", open_bundle(folder).manifest)) is None


@pytest.mark.parametrize("name", ["con", "NUL", "com1", "aux.b", "ada.", "Zo\u00eb", "-a", "a/b", "a" * 65])
def test_names_that_some_disk_refuses_are_refused_in_a_sentence(name: str) -> None:
    for ask in (lambda: people.folder_of(name), lambda: load(None, {"person": name})):
        with pytest.raises(ConfigError, match=r"person cannot be called .*, do not end in '\.'"):
            ask()


@pytest.mark.parametrize("name", ["console", "ada.b", "P07", "com10", "null", "0"])
def test_other_names_are_taken(name: str) -> None:
    assert people.folder_of(name).name == load(None, {"person": name}).person == name


def test_lineage_leads_through_people(tmp_path: Path) -> None:
    kept(tmp_path, "ada", "a" * 12)
    kept(tmp_path, "bob", "b" * 12, "a" * 12)
    kept(tmp_path, "bob", "c" * 12, "b" * 12)
    kept(tmp_path, "bob", "d" * 12, "e" * 12)
    whole, broken = readable()
    assert broken == []
    assert [one.name for one in lineage(model_of("bob", 2), whole)] == ["bob/001", "ada/001"]
    assert lineage(model_of("bob"), whole) == []  # its parent is not here
    kept(tmp_path, "eve", "e" * 12, "d" * 12)
    with pytest.raises(AdaptationError, match="is its own ancestor"):
        lineage(model_of("bob"), readable()[0])


def test_a_damaged_newest_model_says_how_to_do_without_it(tmp_path: Path) -> None:
    assert open_newest("ada") is None
    folders = [kept(tmp_path, "ada", letter * 12) for letter in "abc"]
    newest = open_newest("ada")
    assert newest is not None
    assert newest.folder == folders[2]
    (folders[2] / "encoder.onnx").write_bytes(b"x")
    (folders[1] / "manifest.json").write_text("{}")
    out = "psm-adapt people delete ada --model 003 removes it, --model person:ada/001 or --model general does without"
    with pytest.raises(BundleError, match=f"ada's newest model is damaged: .*; {out} it"):
        open_newest("ada")
    assert delete("ada", 3) == [folders[2]]
    with pytest.raises(BundleError, match="delete ada --model 002 removes it, --model person:ada/001"):
        open_newest("ada")
    assert base_named("general") == str(general_bundle())
