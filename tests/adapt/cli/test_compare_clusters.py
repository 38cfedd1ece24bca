"""psm-adapt compare-clusters: what it prints, draws and refuses."""

import json

import pytest
from tests.adapt.evaluate.conftest import blendshapes_of, recorded

from psm_adapt.cli.compare_clusters import job
from psm_adapt.data.writer import write_store
from psm_stream.cli.common import run
from psm_stream.record.testing import fake_encoder, record_run, some_faces

COUNT = 60
MODELS = ["--models", "shapes=blendshapes", "pixels", "--labels", "blendshapes"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    people = [recorded(name, name, COUNT, blendshapes=blendshapes_of(COUNT, ord(name))) for name in "ab"]
    return str(write_store(tmp_path_factory.mktemp("people") / "store", people).folder)


def test_tables(store, capsys):
    assert job([store, *MODELS]) == 0
    captured = capsys.readouterr()
    assert captured.out.split("\n")[0].split()[:3] == ["frames", "clusters", "shapes"]
    assert "Means over 40 settings of DBSCAN (standard vectors)." in captured.out
    assert captured.err == "a: shapes\na: pixels\na: 40 settings\nb: shapes\nb: pixels\nb: 40 settings\n"


def test_json_and_options(store, tmp_path, capsys):
    options = ["--eps", "2,4.5,2", "--min-samples", "3,4", "--frames", "20", "--scaling", "raw", "--json", "--quiet"]
    assert job([store, *MODELS, *options, "--plot", str(tmp_path / "figure.svg")]) == 0
    captured = capsys.readouterr()
    tree = json.loads(captured.out)
    assert captured.err == ""
    assert tree["settings"][1:3] == [{"eps": 2.0, "min_samples": 4}, {"eps": 4.5, "min_samples": 3}]
    assert len(tree["settings"]) == 4
    assert (tree["scaling"], tree["people"][0]["frames"]) == ("raw", 20)
    assert (tmp_path / "figure.svg").is_file()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--eps", "3,x"], 2, "--eps '3,x': expected numbers with commas between them, such as 4,5"),
        (["--eps", "0"], 2, "--eps '0': expected radii above 0"),
        (["--eps", "inf"], 2, "--eps 'inf': expected radii above 0"),
        (["--min-samples", "4.5"], 2, "--min-samples '4.5': expected numbers"),
        (["--min-samples", "0,4"], 2, "--min-samples '0,4': expected whole numbers from 1"),
        (["--frames", "0"], 2, "--frames '0': expected a whole number from 1 to 10000"),
        (["--frames", "100000"], 2, "--frames '100000': expected a whole number from 1 to 10000"),
        (["--scaling", "standart"], 2, "--scaling 'standart'; did you mean standard?"),
        (["--modells", "a"], 2, "unknown option '--modells'; did you mean --models?"),
        (["--frames", "7"], 1, "a has 7 labelled frames; 8 are the least for min_samples 8"),
        (["--plot", "/nowhere/x.png"], 1, "cannot draw /nowhere/x.png"),
        (["--plot", "x.doc"], 1, "cannot draw x.doc"),
    ],
)
def test_refusals(store, capsys, options, code, message):
    assert run(job, [store, *MODELS, "--eps", "9", "--quiet", *options]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_session_without_blendshapes_says_how_to_record_them(tmp_path, capsys):
    (tmp_path / "face.task").write_bytes(b"not opened for a session")
    encoder = fake_encoder(tmp_path / "bundles", "0123456789ab")
    session = str(record_run(tmp_path / "root", encoder, [some_faces(n, size_px=128) for n in range(12)]))
    words = ["--layout", "session", "--landmarker", str(tmp_path / "face.task"), "--quiet"]
    assert run(job, [session, *MODELS, *words]) == 1
    note, error = capsys.readouterr().err.splitlines()
    assert note.endswith(
        "has the action units that it was recorded with; for blendshapes record with --aligner.name landmarker"
    )
    assert error.endswith("record sessions with --aligner.name landmarker")


def test_models_must_be_two_and_have_names_of_their_own(store, capsys):
    assert run(job, [store, "--labels", "blendshapes", "--models", "pixels"]) == 2
    assert "--models: expected 2 arguments" in capsys.readouterr().err
    assert run(job, [store, "--labels", "blendshapes", "--models", "pixels", "pixels"]) == 2
    assert "two models are called 'pixels'; tell them apart with --models NAME=A NAME=B" in capsys.readouterr().err
    assert run(job, [store, "--labels", "blendshapes", "--models", "pixels", "nothing"]) == 2
    assert "nothing does not exist" in capsys.readouterr().err
