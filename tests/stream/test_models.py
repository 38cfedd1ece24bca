"""Fetching a pinned model, from a real local web server."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from psm_stream import models
from psm_stream.cli import doctor
from psm_stream.models import FetchError, ModelFile, fetch, is_intact

CONTENT = bytes(range(256)) * 600


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "good").write_bytes(CONTENT)
    (folder / "other").write_bytes(CONTENT[:-1] + b"!")
    (folder / "endless").write_bytes(CONTENT * 20)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_address[1]}"
        web.shutdown()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    return ModelFile("thing.task", "http://127.0.0.1:9/none", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def test_fetches_once_and_reports_progress(server: str, model: ModelFile) -> None:
    came: list[int] = []
    path = fetch(model, came.append, f"{server}/good")
    assert path.read_bytes() == CONTENT
    assert sum(came) == len(CONTENT)
    assert fetch(model, came.append) == path  # it is there: no network is needed
    assert is_intact(path, model)


@pytest.mark.parametrize("name", ["other", "endless", "missing"])
def test_another_file_is_refused_and_leaves_nothing(server: str, model: ModelFile, name: str) -> None:
    with pytest.raises(FetchError) as caught:
        fetch(model, lambda _: None, f"{server}/{name}")
    assert "\n" not in str(caught.value)
    assert list(model.path().parent.iterdir()) == []


def test_offline_is_one_clear_line(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "FACE_LANDMARKER", model)
    assert doctor.main(["--fetch-models"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "go online and try again, or put the file at" in errors[0]


@pytest.mark.parametrize("url", ["nonsense", "http://[", "gopher://x/y", "http://127.0.0.1:port/", "http://a\nb/"])
def test_an_address_that_is_none_is_one_clear_line(model: ModelFile, url: str) -> None:
    with pytest.raises(FetchError, match=r"cannot fetch thing\.task from ") as caught:
        fetch(model, lambda _: None, url)
    assert list(model.path().parent.iterdir()) == []
    assert "\n" not in str(caught.value)


def test_a_home_that_cannot_be_written_is_one_clear_line(
    server: str, model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "file"))
    with pytest.raises(FetchError, match=r"cannot keep thing\.task at .*: .*; .* set PSM_HOME"):
        fetch(model, lambda _: None, f"{server}/good")


def test_a_damaged_copy_is_fetched_again(server: str, model: ModelFile) -> None:
    model.path().parent.mkdir(parents=True)
    model.path().write_bytes(b"half")
    assert fetch(model, lambda _: None, f"{server}/good").read_bytes() == CONTENT


def test_the_shipped_pin_is_the_file_that_people_have(shared_data: Path) -> None:
    path = shared_data.parent / "models/face_landmarker.task"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert is_intact(path, models.FACE_LANDMARKER)
    assert path.stat().st_size == models.FACE_LANDMARKER.size_bytes
