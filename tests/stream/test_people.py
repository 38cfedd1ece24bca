"""Where people's models are, and which is the newest."""

from pathlib import Path

import pytest

from psm_stream.people import home, newest_model


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path))
    return tmp_path


def a_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_home_is_where_the_user_says(psm_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == psm_home
    monkeypatch.delenv("PSM_HOME")
    assert home().name == "psm-stream"
    assert home().is_absolute()


def test_nobody_and_nothing_yet(psm_home: Path) -> None:
    assert newest_model("ada") is None
    (psm_home / "people" / "ada" / "001").mkdir(parents=True)  # made, and its manifest not written yet
    assert newest_model("ada") is None


def test_the_newest_whole_model_wins(psm_home: Path) -> None:
    a_model(psm_home / "people" / "ada" / "001")
    newest = a_model(psm_home / "people" / "ada" / "012")
    (psm_home / "people" / "ada" / "013").mkdir()
    a_model(psm_home / "people" / "bob" / "020")
    assert newest_model("ada") == newest


def test_numbers_are_compared_as_numbers_and_names_are_none(psm_home: Path) -> None:
    a_model(psm_home / "people" / "ada" / "999")
    newest = a_model(psm_home / "people" / "ada" / "1000")
    for name in ("backup", "\u00b9\u00b2", "1001.partial"):
        a_model(psm_home / "people" / "ada" / name)
    assert newest_model("ada") == newest
