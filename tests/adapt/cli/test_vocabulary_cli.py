"""psm-adapt vocabulary, as it is typed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.adapt.data.conftest import demo_images
from tests.adapt.vocabulary.expressions import recording, store_of, turns

from psm_adapt.cli.vocabulary import job
from psm_stream.cli.common import run
from psm_stream.clusters.vocabulary import END, START, UNKNOWN, read_vocabulary
from psm_stream.errors import AdaptationError, ClusteringError, ConfigError


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> Path:
    recordings = [recording(f"person{n}/film", turns(rng, 100)) for n in range(3)]
    return store_of(tmp_path / "store", *recordings).folder


def typed(*words: object) -> int:
    return job([str(word) for word in words])


def test_fit_train_and_neighbours(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    v, g = tmp_path / "v.npz", tmp_path / "g.npz"
    assert typed("fit", store, "--size", 6, "--out", v) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{v}: 6 tokens of 6 centres, by units from blendshapes; 3 people, 3 recordings, 300 faces")
    assert "300 faces" in err
    assert typed("train", store, "--vocabulary", v, "--out", g, "--dimensions", 5, "--iterations", 50) == 0
    assert "vectors of 5 dimensions for 6 of 6 tokens; 306 tokens read" in capsys.readouterr().out
    made = read_vocabulary(g)
    assert set(made.vector_tokens) == {START, END, UNKNOWN, *(f"c{n}" for n in range(6))}
    assert json.loads(made.about)["training"]["iterations"] == 50
    assert typed("neighbours", g, "c1", "--count", 2, "--json") == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["token"] == "c1"
    assert shown["profile"]
    assert len(shown["neighbours"]) == 2
    assert typed("neighbours", g, START) == 0
    assert typed("neighbours", g) == 0
    rows = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert rows[0].startswith("c5")
    assert len(rows) == 6


def test_two_runs_are_equal_and_the_vocabulary_that_is_trained_on_stays(store: Path, tmp_path: Path) -> None:
    v = tmp_path / "v.npz"
    typed("fit", store, "--size", 6, "--out", v, "--quiet")
    before = v.read_bytes()
    for name in ("one.npz", "other.npz"):
        typed("train", store, "--vocabulary", v, "--out", tmp_path / name, "--iterations", 20, "--quiet")
    typed("fit", store, "--size", 6, "--out", tmp_path / "again.npz", "--quiet")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert (tmp_path / "again.npz").read_bytes() == v.read_bytes() == before


def test_a_file_that_is_there_is_written_over_only_by_force(store: Path, tmp_path: Path) -> None:
    v, g = tmp_path / "v.npz", tmp_path / "g.npz"
    fit = ("fit", store, "--size", 6, "--out", v, "--quiet")
    train = ("train", store, "--vocabulary", v, "--iterations", 2, "--quiet", "--out")
    typed(*fit)
    g.write_bytes(b"an hour's work")
    before = v.read_bytes()
    for words, said in (
        ((*fit, "--seed", 1), rf"--out {v} exists; name another file, or give --force"),
        ((*train, g), rf"--out {g} exists; .* --force"),
        ((*train, v, "--force"), rf"--out {v} is the --vocabulary itself"),
        ((*train, tmp_path, "--force"), rf"--out {tmp_path} is a folder; name a file"),
    ):
        with pytest.raises(ConfigError, match=said):
            typed(*words)
    assert (v.read_bytes(), g.read_bytes()) == (before, b"an hour's work")
    typed(*train, g, "--force")
    assert read_vocabulary(g).vector_tokens
    typed(*fit, "--seed", 1, "--force")
    assert v.read_bytes() != before


def test_one_is_not_many(tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(tmp_path / "store", recording("ann/film", turns(rng, 50))).folder
    typed("fit", store, "--size", 3, "--out", tmp_path / "v.npz")
    assert "; 1 person, 1 recording, 50 faces" in capsys.readouterr().out


def test_embeddings_of_the_general_encoder(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    v = tmp_path / "v.npz"
    assert typed("fit", store, "--size", 4, "--features", "embedding", "--rate", 1, "--out", v, "--quiet") == 0
    out = capsys.readouterr().out
    made = read_vocabulary(v)
    assert f"by embeddings of {made.model_id}" in out
    assert made.centres.shape == (4, 256)
    assert made.feature == "embedding"


def test_an_image_is_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A video of the demo's face and a picture of it, by way of the real aligner."""
    film, v = tmp_path / "film", tmp_path / "v.npz"
    film.mkdir()
    for n, image in enumerate(demo_images(40)):
        cv2.imwrite(str(film / f"{n:02d}.png"), image[..., ::-1])
    assert typed("fit", film, "--size", 3, "--rate", 30, "--max-distance", 100, "--out", v, "--quiet") == 0
    assert "by units from landmarks" in capsys.readouterr().out
    assert typed("neighbours", v, film / "20.png", "--by", "centres") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith((" is c0", " is c1", " is c2"))
    assert lines[1].startswith(lines[0].split()[-1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fiit"], "did you mean fit"),
        (["fit", "STORE", "--out", "v.npz", "--size", "0"], "--size '0': expected a whole number from 1"),
        (["fit", "STORE", "--out", "v.npz", "--size", "many"], "--size 'many'"),
        (["fit", "STORE", "--out", "v.npz", "--features", "embeding"], "did you mean embedding"),
        (["fit", "STORE", "--out", "v.npz", "--max-distance", "-1"], "expected a number above 0"),
        (["fit", "STORE", "--out", "v.npz", "--rate", "nan"], "expected a number above 0"),
        (["fit", "STORE", "--size", "3"], "--out"),
        (["fit", "STORE", "--out", "v.npz", "--sise", "3"], "did you mean --size"),
        (["fit", "STORE", "--out", "v.npz", "--features", "embedding", "--model", "generall"], "did you mean general"),
        (["neighbours", "MADE", "c99"], "token 'c99' has no centre"),
        (["neighbours", "MADE", "c0", "--by", "vector"], "did you mean vectors"),
        (["neighbours", "MADE", "c0", "--by", "vectors"], "psm-adapt vocabulary train makes them"),
        (["neighbours", "MADE", "face.png"], "there is no image face.png"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(words: list[str], said: str, store: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.npz"
    typed("fit", store, "--size", 5, "--out", made, "--quiet")
    places = {"STORE": store, "MADE": made, "v.npz": tmp_path / "v.npz"}
    with pytest.raises(ConfigError) as told:
        typed(*(places.get(word, word) for word in words))
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "v.npz").exists()


def test_a_vocabulary_of_another_encoder_or_source_is_refused(store: Path, tmp_path: Path) -> None:
    of_shapes, of_codes = tmp_path / "shapes.npz", tmp_path / "codes.npz"
    typed("fit", store, "--size", 5, "--out", of_shapes, "--quiet")
    bare = store_of(tmp_path / "bare", recording("a/b", ["neutral", "smile"] * 9, blendshapes=None)).folder
    with pytest.raises(AdaptationError, match="has no blendshapes"):
        typed("train", bare, "--vocabulary", of_shapes, "--out", tmp_path / "g.npz", "--quiet")
    typed("fit", store, "--size", 4, "--features", "embedding", "--rate", 1, "--out", of_codes, "--quiet")
    with np.load(of_codes) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(of_codes, **{**arrays, "model_id": np.array("0123456789ab")})
    with pytest.raises(ConfigError, match="the vocabulary is of model 0123456789ab; --model general is "):
        typed("train", store, "--vocabulary", of_codes, "--out", tmp_path / "g.npz", "--quiet")
    assert not (tmp_path / "g.npz").exists()


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ClusteringError, match="make one with psm-adapt vocabulary fit"):
        typed("neighbours", tmp_path / "none.npz")
    assert run(job, ["neighbours", str(tmp_path / "none.npz")]) == 1


def test_help_says_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        job([])
    assert left.value.code == 0
    assert "fit, train, neighbours" in capsys.readouterr().out


def test_ctrl_c_ends_training_and_writes_nothing(store: Path, tmp_path: Path) -> None:
    v, g = tmp_path / "v.npz", tmp_path / "g.npz"
    typed("fit", store, "--size", 6, "--out", v, "--quiet")
    words = ["train", str(store), "--vocabulary", str(v), "--out", str(g), "--iterations", "100000000"]
    command = [sys.executable, "-c", "from psm_adapt.cli.entry import main; main()", "vocabulary", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "training vectors" in line:
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 130
    assert "nothing was written" in said
    assert "Traceback" not in said
    assert not g.exists()
