"""psm-adapt evaluate: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
from tests.adapt.data.conftest import demo_images, write_video
from tests.adapt.evaluate.conftest import blendshapes_of, recorded

from psm_adapt.cli.evaluate import job
from psm_adapt.data.writer import write_store
from psm_adapt.evaluate.blendshape_labels import proxy_labels
from psm_stream.cli.common import run

COUNT = 300


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Three people, a b c, with blendshapes and without landmarks."""
    people = [recorded(name, name, COUNT, blendshapes=blendshapes_of(COUNT, ord(name))) for name in "abc"]
    return write_store(tmp_path_factory.mktemp("people") / "store", people).folder


def refused(capsys, *arguments: object) -> tuple[int, str]:
    code = run(job, [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return code, captured.err


def test_two_models(store, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [
        str(store),
        "--model",
        "blendshapes",
        "--model",
        "raw=pixels",
        "--labels",
        "blendshapes",
        "--out",
        str(out),
    ]
    assert job(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(" " * 39)
    assert captured.out.split("\n")[0].split() == ["blendshapes", "raw"]
    assert "Compared over people" in captured.out
    assert captured.err.startswith("blendshapes: features\nblendshapes: probe\n")
    tree = json.loads((out / "results.json").read_text())
    assert tree["models"][0]["measures"]["probe.within"]["value"] > 0.8
    assert sorted(path.name for path in out.iterdir()) == ["probe-across.png", "probe-within.png", "results.json"]


def test_quiet_and_without_files(store, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert job([str(store), "--model", "blendshapes", "--labels", "blendshapes", "--quiet", "--tested", "a,c"]) == 0
    assert capsys.readouterr().err == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_groups_and_several_protocols(store, tmp_path, capsys):
    arguments = [
        "--labels",
        "blendshapes",
        "--protocol",
        "ranking, published",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert job([str(store), "--model", "blendshapes", *arguments]) == 0
    tree = json.loads((tmp_path / "out/results.json").read_text())
    assert tree["protocols"] == ["person-dependent", "person-independent", "ranking"]
    assert len(tree["models"][0]["measures"]) == 4
    capsys.readouterr()


def test_disfa(tmp_path, capsys):
    people = []
    for number in range(1, 4):
        name, shapes = f"SN00{number}", blendshapes_of(COUNT, number)
        people.append(recorded(f"LeftVideo{name}_comp", name, COUNT, blendshapes=shapes))
        labels = proxy_labels(shapes)
        folder = tmp_path / "DISFA/ActionUnit_Labels" / name
        folder.mkdir(parents=True)
        for unit, column in (("12", 5), ("26", 10)):
            rows = [f"{frame},{3 * is_on}" for frame, is_on in enumerate(labels[:, column].astype(int), 1)]
            (folder / f"{name}_au{unit}.txt").write_text("\n".join(rows))
    store = write_store(tmp_path / "store", people).folder
    arguments = [
        "--labels",
        str(tmp_path / "DISFA"),
        "--protocol",
        "published",
        "--out",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert job([str(store), "--model", "blendshapes", *arguments]) == 0
    tree = json.loads((tmp_path / "out/results.json").read_text())
    assert tree["labels"]["units"] == ["AU12", "AU26"]
    measures = tree["models"][0]["measures"]
    assert {measure["value"] > 0.9 for measure in measures.values()} == {True}
    assert measures["person-dependent.random"]["details"]["pairs"] == 6
    capsys.readouterr()


def test_videos_are_aligned_on_the_way(tmp_path, capsys):
    write_video(tmp_path / "videos/ann.mp4", demo_images(25))
    arguments = ["--protocol", "ranking", "--model", "landmarks", "--out", str(tmp_path / "out")]
    assert job([str(tmp_path / "videos/ann.mp4"), *arguments]) == 0
    captured = capsys.readouterr()
    assert "finding faces in 1 recording" in captured.err
    assert "order in time" in captured.out
    assert (tmp_path / "out/crops/store.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "pixels"], "protocol probe needs --labels FILE, DIR or blendshapes"),
        (["--model", "pixels", "--labels", "x", "--protocol", "prob"], "--protocol 'prob'; did you mean probe?"),
        (["--model", "pixels", "--labels", "x", "--protocol", ","], "--protocol: name one or more of probe"),
        (["--model", "pixel", "--labels", "x"], "--model: pixel does not exist"),
        (["--model", "a=pixels", "--model", "a=landmarks", "--labels", "x"], "two models are called 'a'"),
        (["--model", "pixels", "--labels", "blendshapes", "--tested", "anna"], "--tested: there is no 'anna'"),
        (["--labels", "blendshapes"], "--model"),
        (["--modl", "x", "--model", "pixels"], "unknown option '--modl'; did you mean --model?"),
    ],
)
def test_wrong_arguments(store, capsys, arguments, message):
    code, line = refused(capsys, store, *arguments)
    assert code == 2
    assert message in line


def test_an_unknown_layout(tmp_path, capsys):
    code, line = refused(capsys, tmp_path, "--model", "pixels", "--labels", "x", "--layout", "disf")
    assert code == 2
    assert "--layout 'disf'; did you mean disfa?" in line


def test_what_cannot_be_evaluated(store, tmp_path, capsys):
    for arguments, message in (
        (
            [store, "--model", "landmarks", "--labels", "blendshapes", "--quiet"],
            "has no landmarks in 300 of 300 frames",
        ),
        ([store, "--model", "pixels", "--labels", tmp_path / "nothing"], "labels: there is no"),
        ([store, "--model", "pixels", "--labels", store], "holds neither DISFA's"),
        ([tmp_path / "nowhere", "--model", "pixels", "--labels", "x"], "there is no"),
        ([store, store, "--model", "pixels", "--labels", "blendshapes"], "is in more than one store"),
    ):
        code, line = refused(capsys, *arguments)
        assert code == 1
        assert message in line


def test_a_place_that_cannot_be_written(store, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = ["--model", "blendshapes", "--labels", "blendshapes", "--quiet", "--out", str(tmp_path / "file")]
    assert run(job, [str(store), *arguments]) == 1
    assert "cannot write into" in capsys.readouterr().err
