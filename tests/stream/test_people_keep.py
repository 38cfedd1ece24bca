"""Keeping people's models: whole or not at all, numbered, checked, deleted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.stream.people_models import GENERAL_ID, a_model, kept, worker_out

from psm_stream import people_keep
from psm_stream.bundle import open_bundle
from psm_stream.errors import AdaptationError, BundleError, ConfigError, DigestMismatch
from psm_stream.people import everyone, model_of, newest_model, numbers, readable
from psm_stream.people_keep import check, delete, files_of, keep


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


_KEEPER = """
import sys
from pathlib import Path
from psm_stream.people_keep import keep
for out in sys.argv[1:]:
    print(keep("ada", Path(out)).name)
"""


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
    check_first = people_keep.check

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

    claim = people_keep._claim
    monkeypatch.setattr(people_keep, "check", slow)
    monkeypatch.setattr(people_keep, "_claim", late)
    assert kept(tmp_path, "ada", "a" * 12).name == "002"
    assert (theirs / "manifest.json").read_text() == "{}"


def test_a_crash_leaves_no_half_model_and_is_swept_up(tmp_path: Path, psm_home: Path) -> None:
    out = worker_out(tmp_path / "out", "a" * 12)
    crash = "import os, psm_stream.people_keep as p; from pathlib import Path; p.check = lambda _: os._exit(9)\n"
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
