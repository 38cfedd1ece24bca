"""People's models: kept whole or not at all, found by name, checked, deleted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.stream.people_models import GENERAL_ID, worker_out

from psm_stream import people
from psm_stream.bundle import EncoderBundle, general_bundle, open_bundle
from psm_stream.config import load
from psm_stream.errors import AdaptationError, BundleError, ConfigError, DigestMismatch
from psm_stream.people import (
    base_named,
    base_of,
    check,
    delete,
    everyone,
    files_of,
    home,
    keep,
    lineage,
    model_of,
    newest_model,
    numbers,
    open_newest,
    readable,
)
from psm_stream.startup import _bundle


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def a_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def kept(tmp_path: Path, person: str, model_id: str, parent: str = GENERAL_ID) -> Path:
    return keep(person, worker_out(tmp_path / f"out-{person}-{model_id}", model_id, parent))


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


def test_a_kept_model_is_a_bundle_with_its_weights(tmp_path: Path, psm_home: Path) -> None:
    out = worker_out(tmp_path / "out", "aaaaaaaaaaaa")
    (out / "checkpoint" / "notes.txt").write_text("is not part of it")
    folder = keep("ada", out)
    assert folder == psm_home / "people" / "ada" / "001" == newest_model("ada")
    for name in ("encoder.onnx", "manifest.json"):
        assert (folder / name).read_bytes() == (out / "bundle" / name).read_bytes()
    for name in ("checkpoint/checkpoint.json", "checkpoint/encoder.safetensors", "adaptation.json"):
        assert (folder / name).read_bytes() == (out / name).read_bytes()
    assert sorted(files_of(folder)) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )
    model = model_of("ada")
    assert (model.name, model.manifest.parent, model.adaptation.loss_after) == ("ada/001", GENERAL_ID, 0.25)
    assert model.size_bytes > 4_000_000
    if os.name == "posix":
        assert (psm_home / "people" / "ada").stat().st_mode & 0o077 == 0


def test_numbers_go_on_and_nothing_is_overwritten(tmp_path: Path, psm_home: Path) -> None:
    first, second = (kept(tmp_path, "ada", letter * 12) for letter in "ab")
    (psm_home / "people" / "ada" / "007").mkdir()  # somebody's, empty
    third = kept(tmp_path, "ada", "c" * 12)
    assert [folder.name for folder in (first, second, third)] == ["001", "002", "008"]
    assert [open_bundle(folder).manifest.model_id[0] for folder in (first, second, third)] == ["a", "b", "c"]
    assert sorted(entry.name for entry in (psm_home / "people" / "ada").iterdir()) == ["001", "002", "007", "008"]


_KEEPER = """
import sys
from pathlib import Path
from psm_stream.people import keep
for out in sys.argv[1:]:
    print(keep("ada", Path(out)).name)
"""


def test_several_processes_keep_at_once(tmp_path: Path) -> None:
    outs = [worker_out(tmp_path / f"out{number}", f"{number:012x}") for number in range(9)]
    keepers = [
        subprocess.Popen([sys.executable, "-c", _KEEPER, *map(str, outs[start::3])], stdout=subprocess.PIPE, text=True)
        for start in range(3)
    ]
    try:
        said = [keeper.communicate(timeout=60)[0].split() for keeper in keepers]
    finally:
        for keeper in keepers:
            keeper.kill()
            keeper.wait()
    assert sorted(name for names in said for name in names) == [f"{number:03d}" for number in range(1, 10)]
    assert {model_of("ada", number).manifest.model_id for number in numbers("ada")} == {
        f"{number:012x}" for number in range(9)
    }


def test_a_number_that_another_takes_first_is_left_to_it(
    tmp_path: Path, psm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = psm_home / "people" / "ada" / "001"
    check_first = people.check

    def slow(folder: Path) -> None:
        check_first(folder)
        a_model(theirs)

    def late(place: Path, fresh: Path) -> Path:
        """Claim as if the other's folder had come up after the look at the numbers."""
        hidden = theirs.rename(place / "hidden")
        rename = Path.rename

        def renamed(path: Path, target: Path) -> Path:
            if hidden.exists():
                rename(hidden, theirs)
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", renamed)
        return claim(place, fresh)

    claim = people._claim
    monkeypatch.setattr(people, "check", slow)
    monkeypatch.setattr(people, "_claim", late)
    assert kept(tmp_path, "ada", "a" * 12).name == "002"
    assert (theirs / "manifest.json").read_text() == "{}"


def test_a_crash_leaves_no_half_model_and_is_swept_up(tmp_path: Path, psm_home: Path) -> None:
    out = worker_out(tmp_path / "out", "a" * 12)
    crash = "import os, psm_stream.people as p; from pathlib import Path; p.check = lambda _: os._exit(9)\n"
    done = subprocess.run([sys.executable, "-c", crash + _KEEPER, str(out)], timeout=60, check=False)
    assert done.returncode == 9
    (left,) = (psm_home / "people" / "ada").iterdir()
    assert left.name.startswith(".keep-")
    assert newest_model("ada") is None
    ours = psm_home / "people" / "ada" / f".keep-{os.getpid()}-0123"  # of a process that lives
    ours.mkdir()
    assert keep("ada", out).name == "001"
    assert not left.exists()
    assert ours.exists()


def test_what_is_damaged_or_foreign_is_not_kept(tmp_path: Path) -> None:
    def spoil(name: str, content: str | None = None, **said: object) -> Path:
        out = worker_out(tmp_path / f"out{len(list(tmp_path.iterdir()))}", "a" * 12, **said)
        if content is None and name:
            (out / name).unlink()
        elif name:
            (out / name).write_text(str(content))
        return out

    for out, kind, why in (
        (spoil("bundle/encoder.onnx", "x"), DigestMismatch, "encoder.onnx has sha256"),
        (spoil("bundle/manifest.json"), BundleError, "no manifest.json"),
        (spoil("checkpoint/encoder.safetensors", "x"), AdaptationError, "encoder.safetensors is not the file that"),
        (spoil("checkpoint/encoder.safetensors"), AdaptationError, "encoder.safetensors is missing"),
        (spoil("checkpoint/checkpoint.json", "[]"), AdaptationError, "checkpoint.json is wrong at the file"),
        (spoil("adaptation.json"), AdaptationError, "adaptation.json is missing"),
        (spoil("", accepted=False, reason="worse"), AdaptationError, r"was not accepted \(worse\)"),
        (spoil("", model_id="b" * 12), AdaptationError, "the bundle is a{12}, expected b{12}"),
        (spoil("", checkpoint_id="b" * 12), AdaptationError, "the checkpoint is a{12}, expected b{12}"),
        (spoil("", parent="b" * 12), AdaptationError, "the bundle's parent is"),
        (tmp_path / "nowhere", BundleError, "no such folder"),
    ):
        with pytest.raises(kind, match=why):
            keep("ada", out)
    assert everyone() == []
    with pytest.raises(ConfigError, match=r"a person cannot be called '\.\./ada'"):
        keep("../ada", spoil(""))


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_are_not_followed(tmp_path: Path) -> None:
    out = worker_out(tmp_path / "out", "a" * 12)
    (out / "adaptation.json").rename(tmp_path / "elsewhere.json")
    (out / "adaptation.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(AdaptationError, match=r"adaptation.json is a link"):
        keep("ada", out)
    assert everyone() == []


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


def test_deleting_one_and_everything(tmp_path: Path, psm_home: Path) -> None:
    folders = [kept(tmp_path, "ada", letter * 12) for letter in "abc"]
    other = kept(tmp_path, "bob", "d" * 12)
    assert delete("ada", 2) == [folders[1]]
    assert numbers("ada") == [1, 3]
    (psm_home / "people" / "ada" / ".keep-1-00").mkdir()
    assert delete("ada") == [folders[0], folders[2]]
    assert not (psm_home / "people" / "ada").exists()
    assert everyone() == ["bob"]
    assert open_bundle(other)
    with pytest.raises(ConfigError, match="no models of 'ada'"):
        delete("ada")
    with pytest.raises(ConfigError, match="bob has no model 009"):
        delete("bob", 9)


@pytest.mark.parametrize("name", ["con", "NUL", "com1", "aux.b", "ada.", "Zo\u00eb", "-a", "a/b", "a" * 65])
def test_names_that_some_disk_refuses_are_refused_in_a_sentence(name: str) -> None:
    for ask in (lambda: people.folder_of(name), lambda: load(None, {"person": name})):
        with pytest.raises(ConfigError, match=r"person cannot be called .*, do not end in '\.'"):
            ask()


@pytest.mark.parametrize("name", ["console", "ada.b", "P07", "com10", "null", "0"])
def test_other_names_are_taken(name: str) -> None:
    assert people.folder_of(name).name == load(None, {"person": name}).person == name


def test_the_folder_goes_with_the_last_model(tmp_path: Path, psm_home: Path) -> None:
    place = psm_home / "people" / "ada"
    folder = kept(tmp_path, "ada", "a" * 12)
    (place / ".keep-999999999-00").mkdir()  # left by a process that is gone
    assert delete("ada", 1) == [folder]
    assert not place.exists()
    kept(tmp_path, "ada", "b" * 12)
    (place / "notes.txt").write_text("somebody's")
    delete("ada", 1)
    assert [one.name for one in place.iterdir()] == ["notes.txt"]
    with pytest.raises(ConfigError, match="no models of 'ada'"):
        delete("ada", 1)
    assert delete("ada") == []
    assert not place.exists()


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


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    good, bad = (kept(tmp_path, "ada", letter * 12) for letter in "ab")
    check(good)
    (bad / "encoder.onnx").write_bytes(b"x")
    with pytest.raises(DigestMismatch):
        model_of("ada")
    ((name, why),) = readable()[1]
    assert name == "ada/002"
    assert "encoder.onnx has sha256" in why
    (good / "adaptation.json").write_text(json.dumps({"schema": 2, "accepted": True}))
    with pytest.raises(AdaptationError, match=r"adaptation.json is wrong at schema"):
        check(good)
