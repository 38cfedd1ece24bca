"""psm-adapt people, as it is typed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.stream.people_models import GENERAL_ID, worker_out

from psm_adapt.cli.people import job
from psm_adapt.general.shipped import general_checkpoint
from psm_stream import people
from psm_stream.cli.common import run
from psm_stream.clusters.reservoir import Row
from psm_stream.errors import AdaptationError, ClusteringError, ConfigError, DigestMismatch
from psm_stream.people import numbers
from psm_stream.people_clusters import file_of, prototypes, save
from psm_stream.people_keep import keep

HOME = "PSM_HOME"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ada/001 from the general model, ada/002 and ada/003 from it; bob/001 from ada/002, with real weights."""
    monkeypatch.setenv(HOME, str(tmp_path / "home"))
    for number, (person, letter, parent) in enumerate(
        (("ada", "a", GENERAL_ID), ("ada", "b", "a" * 12), ("ada", "c", "a" * 12), ("bob", "d", "b" * 12))
    ):
        weights = general_checkpoint() if person == "bob" else None
        keep(person, worker_out(tmp_path / f"out{number}", letter * 12, parent, weights))
    return tmp_path / "home" / "people"


def clusters(person: str, faces: int = 6) -> None:
    """Two clusters, the second of which is called smile."""
    rows = [
        Row(key, 0, key, 0.0, np.full((8, 8, 3), key, np.uint8), np.full(4, key, np.float32), "a" * 12, key % 2)
        for key in range(faces)
    ]
    save(person, prototypes(rows, 5, {1: "smile"}))


def test_the_list(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job([]) == 0
    lines = capsys.readouterr().out.splitlines()
    pattern = r"ada/002  b{12}  from ada/001  \d{4}-\d\d-\d\d \d\d:\d\d  486 faces  loss 0.5 -> 0.25  9.9 MB"
    assert re.fullmatch(pattern, re.sub(" {3,}", "  ", lines[1]))
    assert [line.split()[0] for line in lines] == ["ada/001", "ada/002", "ada/003", "bob/001"]
    assert "from general" in lines[0]
    (store / "ada" / "002" / "encoder.onnx").write_bytes(b"x")
    assert job(["list"]) == 0
    assert "ada/002  BROKEN: " in capsys.readouterr().out
    for name in ("ada/001", "ada/003", "bob/001"):
        shutil.rmtree(store / name)
    assert job([]) == 1
    nothing, said = capsys.readouterr().out.splitlines()
    assert nothing == f"no whole models in {store}"
    assert said.endswith("psm-adapt people delete ada --model 002 removes it")


def test_the_list_as_json(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "ada" / "003" / "adaptation.json").write_text("{}")
    assert job(["--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed] == ["ada/001", "ada/002", "bob/001", "ada/003"]
    assert (listed[2]["parent"], listed[2]["frames"], listed[2]["loss_after"]) == ("b" * 12, 486, 0.25)
    assert listed[0]["size_bytes"] == sum(path.stat().st_size for path in (store / "ada" / "001").rglob("*.*"))
    assert "broken" in listed[3]


def test_an_empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(HOME, str(tmp_path))
    assert job([]) == 0
    assert "no models in" in capsys.readouterr().out
    assert job(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert job(["verify"]) == 0
    with pytest.raises(ConfigError, match="no models of 'ada'"):
        job(["show", "ada"])


def test_a_home_that_is_a_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").write_text("")
    monkeypatch.setenv(HOME, str(tmp_path / "home"))
    assert run(job, []) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot read {tmp_path / 'home' / 'people'}: Not a directory; PSM_HOME ")
    assert said.count("\n") == 1


@pytest.mark.usefixtures("store")
def test_the_tree_and_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert job(["show", "ada", "--model", "1"]) == 0
    tree, _, figures = capsys.readouterr().out.partition("\n\n")
    assert [line.partition("  ")[0] for line in tree.replace("   ├", "├").replace("   └", "└").splitlines()] == [
        "general",
        "└─ ada/001",
        "├─ ada/002",
        "└─ ada/003",
    ]
    assert tree.splitlines()[3].endswith("(newest)")
    assert "loss             0.5 -> 0.25" in figures
    assert "rank             12.5" in figures
    assert job(["show", "bob"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "ada/002"
    assert job(["show", "bob", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ancestors"] == ["ada/002", "ada/001"]


def test_export_and_import(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "bob.zip"
    assert job(["export", "bob", "--out", str(archive)]) == 0
    assert "1 model of bob" in capsys.readouterr().out
    assert job(["import", str(archive)]) == 0
    assert capsys.readouterr().out == "bob/001 is bob/001 already\n"
    assert job(["import", str(archive), "--person", "ada"]) == 0
    assert capsys.readouterr().out == "bob/001 is ada/004 now\n"
    assert (store / "ada" / "004" / "encoder.onnx").read_bytes() == (
        store / "bob" / "001" / "encoder.onnx"
    ).read_bytes()


def test_nothing_is_imported_when_one_is_damaged(store: Path, tmp_path: Path) -> None:
    """ada's weights are no safetensors, which only a reader of weights can tell."""
    out = tmp_path / "both"
    assert job(["export", "bob", "--out", str(out)]) == 0
    shutil.copytree(store / "ada" / "001", out / "zoe" / "001")
    with pytest.raises(AdaptationError, match="checkpoint"):
        job(["import", str(out)])
    with pytest.raises(ConfigError, match="holds models of several people"):
        job(["import", str(out), "--person", "eve"])
    shutil.rmtree(out / "zoe")
    (out / "bob" / "001" / "encoder.onnx").write_bytes(b"x")
    with pytest.raises(DigestMismatch):
        job(["import", str(out)])
    assert (numbers("bob"), numbers("zoe"), numbers("eve")) == ([1], [], [])


def test_deleting_asks(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(ConfigError, match="nobody to ask whether to delete; give --yes"):
        job(["delete", "ada"])
    for answer, code in (("no\n", 1), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", _Terminal(answer))
        assert job(["delete", "ada", "--model", "002"]) == code
    said = capsys.readouterr().out
    assert "delete model 002 of ada for good? [y/N] nothing was deleted" in said
    assert f"deleted {store / 'ada' / '002'}" in said
    assert job(["delete", "ada", "--yes"]) == 0
    assert people.everyone() == ["bob"]
    assert not (store / "ada").exists()
    with pytest.raises(ConfigError, match="bob has no model 007; there are 001"):
        job(["delete", "bob", "--model", "7", "--yes"])


def test_verify_names_the_first_that_is_broken(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job(["verify", "bob"]) == 0
    assert capsys.readouterr().out == "1 model checked, nothing is broken\n"
    assert job(["verify"]) == 1  # ada's weights are made up
    assert capsys.readouterr().err.startswith("ada/001 is broken: ")
    assert job(["delete", "ada", "--yes"]) == 0
    capsys.readouterr()
    assert job(["verify"]) == 0
    assert "bob/001 descends from bbbbbbbbbbbb, which is not kept here" in capsys.readouterr().out
    weights = store / "bob" / "001" / "checkpoint" / "generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert job(["verify"]) == 1
    assert "generator.safetensors is not the file that checkpoint.json names" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_clusters_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    clusters("ada")
    clusters("cy")  # who has no model
    assert job([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["ada/clusters", "cy/clusters"]
    assert re.fullmatch(r"cy/clusters  2 clusters  6 faces kept  \d{4}-\d\d-\d\d \d\d:\d\d  0.0 MB", lines[-1])
    assert job(["--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed[-2:]] == ["ada/clusters", "cy/clusters"]
    assert listed[-1]["clusters"] == [
        {"cluster": 0, "name": "", "faces": 3},
        {"cluster": 1, "name": "smile", "faces": 3},
    ]
    assert (listed[-1]["faces"], listed[-1]["next_id"], listed[-1]["model_id"]) == (6, 5, "a" * 12)
    assert job(["show", "cy"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("clusters   2, by the codes of aaaaaaaaaaaa\nkept       6 faces, pictures of cy, ")
    assert said.endswith("cluster 0  3 faces\ncluster 1  3 faces, smile\n")
    assert job(["show", "ada"]) == 0
    assert "\n\nclusters   2, by the codes" in capsys.readouterr().out
    assert job(["show", "cy", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["model"], shown["models"], shown["clusters"]) == (None, [], listed[-1])
    assert job(["show", "bob", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clusters"] is None
    for typed, why in (
        (["show", "cy", "--model", "1"], "no models of 'cy'"),
        (["show", "cyy"], "no models of 'cyy'.*did you mean cy"),
        (["delete", "cy", "--model", "1", "--yes"], "no models of 'cy'"),
        (["delete", "bob", "--clusters", "--yes"], "bob has no clusters; known: ada, cy"),
        (["delete", "ada", "--clusters", "--model", "1", "--yes"], "--clusters deletes no model"),
        (["export", "cy", "--models-only", "--out", "x.zip"], "no models of 'cy'"),
    ):
        with pytest.raises(ConfigError, match=why):
            job(typed)


def test_broken_clusters_are_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(store / "ada")
    clusters("cy")
    assert job(["verify"]) == 0
    assert capsys.readouterr().out.endswith("1 model and the clusters of 1 person checked, nothing is broken\n")
    file_of("cy").write_bytes(b"x")
    assert job([]) == 0
    assert "\ncy/clusters  BROKEN: cy's clusters are damaged: " in capsys.readouterr().out
    assert job(["show", "cy"]) == 1
    assert capsys.readouterr().out.startswith("cy/clusters  BROKEN: ")
    assert job(["show", "cy", "--json"]) == 1
    assert "damaged" in json.loads(capsys.readouterr().out)["clusters"]["broken"]
    for typed in (["verify"], ["verify", "cy"]):
        assert job(typed) == 1
        assert capsys.readouterr().err.startswith("cy/clusters is broken: cy's clusters are damaged: ")
    with pytest.raises(ClusteringError, match="cy's clusters are damaged"):
        job(["export", "cy", "--out", "cy.zip"])
    shutil.rmtree(store / "bob")
    assert job([]) == 1
    assert job(["delete", "cy", "--clusters", "--yes"]) == 0
    assert not (store / "cy").exists()


@pytest.mark.usefixtures("store")
def test_clusters_are_exported_and_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clusters("bob")
    archive = tmp_path / "bob.zip"
    assert job(["export", "bob", "--out", str(archive)]) == 0
    assert "1 model, and clusters with 6 pictures of bob; " in capsys.readouterr().out
    for more, name in ((["--models-only"], "models.zip"), (["--model", "1"], "one.zip")):
        assert job(["export", "bob", *more, "--out", str(tmp_path / name)]) == 0
        assert "bob.zip: 1 model of bob" not in capsys.readouterr().out
        assert (tmp_path / name).stat().st_size + file_of("bob").stat().st_size < archive.stat().st_size
    before = file_of("bob").read_bytes()
    assert job(["import", str(archive)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "the clusters of bob are those of bob already"
    assert job(["import", str(archive), "--person", "eve"]) == 0
    assert capsys.readouterr().out == "bob/001 is eve/001 now\nthe clusters of bob are those of eve now\n"
    assert file_of("eve").read_bytes() == before
    clusters("bob", faces=8)
    assert job(["import", str(archive)]) == 0
    assert "the clusters of bob were left: bob has others; psm-adapt people delete bob" in capsys.readouterr().out
    assert file_of("bob").read_bytes() != before


def test_nothing_is_imported_when_clusters_are_damaged(store: Path, tmp_path: Path) -> None:
    clusters("bob")
    assert job(["export", "bob", "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "bob").rename(tmp_path / "out" / "zoe")
    file = tmp_path / "out" / "zoe" / "clusters.npz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ClusteringError, match=r"clusters.npz cannot be read"):
        job(["import", str(tmp_path / "out")])
    assert not (store / "zoe").exists()


def test_deleting_clusters_leaves_models_and_everything_leaves_nothing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clusters("ada")
    assert job(["delete", "ada", "--clusters", "--yes"]) == 0
    assert capsys.readouterr().out == f"deleted {file_of('ada')}\n"
    assert (numbers("ada"), file_of("ada").exists()) == ([1, 2, 3], False)
    clusters("bob")
    assert job(["delete", "bob", "--model", "1", "--yes"]) == 0
    assert capsys.readouterr().out == f"deleted {store / 'bob' / '001'}\n"
    assert file_of("bob").exists()
    clusters("ada")
    assert job(["delete", "ada", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"deleted {file_of('ada')}"
    assert not (store / "ada").exists()
    assert job(["delete", "bob", "--yes"]) == 0
    assert people.everyone() == []


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (["shwo"], "unknown verb 'shwo' of psm-adapt people; did you mean show?"),
        (["show", "eda"], "did you mean ada?"),
        (["show", "ada", "--model", "newest"], "a model is named by its number, such as 003"),
        (["export", "ada"], "--out"),
        (["--jsno"], "did you mean --json?"),
        (["verify", "boob"], "did you mean bob?"),
    ],
)
def test_errors_are_one_line(typed: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(job, typed) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


def test_a_list_needs_no_torch(store: Path) -> None:
    code = "import sys; from psm_adapt.cli.people import job; job([]); sys.exit('torch' in sys.modules)"
    environment = os.environ | {HOME: str(store.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, capture_output=True, check=False)
    assert done.returncode == 0


class _Terminal:
    """Somebody who types one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line
