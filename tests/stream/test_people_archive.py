"""Archives of people's models and clusters: the same there and back, and nothing else gets in."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.stream.people_models import worker_out

from psm_stream.errors import AdaptationError, ConfigError
from psm_stream.people import model_of, numbers
from psm_stream.people_archive import pack, unpacked
from psm_stream.people_keep import files_of, keep, keep_files


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    for number, letter in enumerate("ab"):
        keep("ada", worker_out(tmp_path / f"out{number}", letter * 12))
    return tmp_path / "home"


def contents(folder: Path) -> Mapping[str, bytes]:
    return {name: path.read_bytes() for name, path in files_of(folder).items()}


@pytest.mark.parametrize("name", ["ada.zip", "folder"])
def test_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    out = tmp_path / "new" / name
    models = [model_of("ada", number) for number in numbers("ada")]
    pack(models, out)
    assert [path.name for path in out.parent.iterdir()] == [name]
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "elsewhere"))
    with unpacked(out) as found:
        assert [(one.person, one.number) for one in found.models] == [("ada", 1), ("ada", 2)]
        assert found.clusters == {}
        for one, model in zip(found.models, models, strict=True):
            kept = keep_files("eda", files_of(one.folder))
            assert contents(kept) == contents(model.folder)
    assert numbers("eda") == [1, 2]
    with pytest.raises(ConfigError, match="exists; models are never written over anything"):
        pack(models, out)


def test_the_same_models_give_the_same_zip(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        pack([model_of("ada", 1)], tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize("name", ["ada.zip", "folder"])
def test_clusters_go_with_models_or_alone(tmp_path: Path, name: str) -> None:
    file = tmp_path / "some.npz"
    file.write_bytes(b"clusters")
    for models in ([], [model_of("ada", 1)]):
        out = tmp_path / str(len(models)) / name
        pack(models, out, {"ada": file, "bob": file})
        with unpacked(out) as found:
            assert [one.number for one in found.models] == [1] * len(models)
            assert {person: path.read_bytes() for person, path in found.clusters.items()} == {
                "ada": b"clusters",
                "bob": b"clusters",
            }
        if os.name == "posix":
            assert out.stat().st_mode & 0o077 == 0  # faces are in it


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack([model_of("ada", 1)], out)
    (tmp_path / "some.npz").write_bytes(b"clusters")
    (out / "ada" / "clusters.npz").symlink_to(tmp_path / "some.npz")
    (out / "bob").symlink_to(out / "ada")
    with unpacked(out) as found:
        assert [(one.person, one.number) for one in found.models] == [("ada", 1)]
        assert found.clusters == {}


@pytest.mark.parametrize(
    "name",
    [
        "../../evil/001/manifest.json",
        "/etc/001/manifest.json",
        "ada/001/../../../evil",
        "ada/001/checkpoint/resume/state",
        "ada/001/..",
        "ada\\001\\manifest.json",
        "C:/001/manifest.json",
        ".ssh/001/keys",
        "../clusters.npz",
        "ada/001/../clusters.npz",
        "con/clusters.npz",
        "ada/clusters.npz/x",
        "ada/clusters/crops.npy",
        "clusters.npz",
        "ada/x/manifest.json",
        "notes.txt",
    ],
)
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ada/001/manifest.json", "{}")
        file.writestr(name, "x")
    with (
        pytest.raises(AdaptationError, match="is no file of a person's model; nothing was imported"),
        unpacked(archive),
    ):
        pass


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not a zip")
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as file:
        file.writestr("ada/001/manifest.json", "{}")
        file.filelist[0].file_size = 1 << 40
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as file:
        file.writestr("ada/001/manifest.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("ada/001/manifest.json", "{}")
    for name, kind, why in (
        ("text.zip", AdaptationError, "is no zip that can be read"),
        ("empty", AdaptationError, "empty holds no models; expected NAME/NNN/manifest.json"),
        ("empty.zip", AdaptationError, "empty.zip holds no models"),
        ("bomb.zip", AdaptationError, "more than 4 GiB or 10000 files; refused"),
        ("twice.zip", AdaptationError, "manifest.json is in it twice"),
        ("nowhere.zip", ConfigError, "no such file or folder"),
    ):
        with pytest.raises(kind, match=why), unpacked(tmp_path / name):
            pass


def test_a_zip_cut_off_or_changed_is_refused(tmp_path: Path) -> None:
    pack([model_of("ada", 1)], tmp_path / "ada.zip")
    content = bytearray((tmp_path / "ada.zip").read_bytes())
    (tmp_path / "short.zip").write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.zip").write_bytes(content)
    for name in ("short.zip", "changed.zip"):
        with pytest.raises(AdaptationError, match="is no zip that can be read"), unpacked(tmp_path / name):
            pass


def test_a_compressed_zip_that_was_changed_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "changed.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("ada/001/manifest.json", "{}" * 1000)
    content = bytearray(archive.read_bytes())
    start = 30 + len("ada/001/manifest.json")  # after the local header
    content[start : start + 4] = b"\xff" * 4
    archive.write_bytes(content)
    with pytest.raises(AdaptationError, match="is no zip that can be read"), unpacked(archive):
        pass
