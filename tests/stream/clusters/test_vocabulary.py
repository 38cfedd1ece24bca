"""The file of an expression vocabulary: what is written is read again, and what is damaged is refused in one line."""

import json
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from tests.stream.clusters.vocabularies import of_embeddings, of_units

from psm_stream.clusters.units import UNITS
from psm_stream.clusters.vocabulary import UNKNOWN, Vocabulary, measuring_of, read_vocabulary, write_vocabulary
from psm_stream.errors import ClusteringError


@pytest.fixture(params=[of_embeddings, of_units])
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    made: Vocabulary = request.param()
    return made


def with_vectors(vocabulary: Vocabulary) -> Vocabulary:
    tokens = ("<END>", "<START>", UNKNOWN, "c0", "c1", "c10")
    counts = np.arange(len(tokens), dtype=np.int64)
    vectors = np.random.default_rng(0).normal(size=(len(tokens), 25)).astype(np.float32)
    return replace(vocabulary, vector_tokens=tokens, vector_counts=counts, vectors=vectors)


def test_what_is_written_is_read_again(vocabulary: Vocabulary, tmp_path: Path) -> None:
    for made in (vocabulary, with_vectors(vocabulary)):
        write_vocabulary(tmp_path / "v.npz", made)
        read = read_vocabulary(tmp_path / "v.npz")
        for one in fields(made):
            before, after = getattr(made, one.name), getattr(read, one.name)
            np.testing.assert_array_equal(after, np.float64(before) if one.name == "limit" else before)
            assert np.asarray(after).dtype.kind == np.asarray(before).dtype.kind
    assert json.loads(read.about) == json.loads(vocabulary.about)


def test_the_same_vocabulary_gives_the_same_bytes_and_nothing_else_is_left(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        write_vocabulary(tmp_path / "new folder" / f"{name}.npz", vocabulary)
    folder = tmp_path / "new folder"
    assert (folder / "one.npz").read_bytes() == (folder / "other.npz").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["one.npz", "other.npz"]


def test_a_token_is_the_number_of_its_row_whatever_becomes_of_other_rows() -> None:
    """The published counter was numbered after the empty row 689 was deleted, so that ids from there on are off by one.

    Here a centre with too few faces stays where it is, and so does the number of the one after it.
    """
    vocabulary = replace(of_embeddings(size=4), counts=np.array([9, 0, 2, 3]), min_count=3)
    assert [vocabulary.token(number) for number in range(-1, 4)] == [UNKNOWN, "c0", UNKNOWN, UNKNOWN, "c3"]
    assert vocabulary.is_word.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("centres", np.full((20, 8), np.nan, np.float32), "a centre is not finite"),
        ("centres", np.zeros((0, 8), np.float32), "it has no centre"),
        ("centres", np.zeros(8, np.float32), "centres is float32 [8]"),
        ("centres", np.zeros((20, 8), np.int64), "centres is int64 [20, 8]"),
        ("counts", np.zeros(19, np.int64), "counts do not fit"),
        ("counts", np.full(20, -1), "counts do not fit"),
        ("scale", np.zeros(8, np.float32), "scale does not fit"),
        ("limit", np.array(np.nan, np.float32), "limit is not above 0"),
        ("feature", np.array("colour"), "its feature is 'colour'"),
        ("model_id", np.array(""), "model_id does not fit"),
        ("features", np.array(["AU1"]), "features do not fit"),
        ("vectors", np.zeros((1, 25), np.float32), "vectors do not fit"),
        ("profiles", np.zeros((20, 3), np.float32), "profiles do not fit"),
        ("about", np.array([{}], dtype=object), "about"),
        ("counts", None, "it lacks counts"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(name: str, value: np.ndarray | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    write_vocabulary(path, of_embeddings())
    with np.load(path) as file:
        arrays = {one: file[one] for one in file.files if one != name}
    with path.open("wb") as out:
        np.savez(out, **arrays, **({} if value is None else {name: value}))
    with pytest.raises(ClusteringError) as told:
        read_vocabulary(path)
    text = str(told.value)
    if words != "about":  # an object array is refused by numpy, in its own words
        assert words in text
    assert "\n" not in text
    assert "psm-adapt vocabulary fit" in text


def test_units_that_are_not_known_here_are_named(tmp_path: Path) -> None:
    with pytest.raises(ClusteringError, match="not known here: AU99"):
        write_vocabulary(tmp_path / "v.npz", of_units(("AU1", "AU99")))
    with pytest.raises(ClusteringError, match="not in their order"):
        write_vocabulary(tmp_path / "v.npz", of_units(("AU2", "AU1")))


def test_units_that_are_measured_in_another_way_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers would mean other faces."""
    write_vocabulary(tmp_path / "units.npz", of_units())
    write_vocabulary(tmp_path / "codes.npz", of_embeddings())
    eyebrow, *others = UNITS
    monkeypatch.setattr("psm_stream.clusters.vocabulary.UNITS", (replace(eyebrow, formula="y(chin)"), *others))
    with pytest.raises(ClusteringError, match="another version of psm-stream measured from landmarks"):
        read_vocabulary(tmp_path / "units.npz")
    read_vocabulary(tmp_path / "codes.npz")
    assert measuring_of("blendshapes") not in ("", measuring_of("landmarks"))


def test_what_is_no_vocabulary_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "notes.npz", "w") as file:
        file.writestr("centres.npy", b"nothing")
    write_vocabulary(tmp_path / "whole.npz", of_embeddings())
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.npz").write_bytes(whole[:600] + bytes([whole[600] ^ 255]) + whole[601:])
    for name in (
        "text.npz", "empty.npz", "array.npy", "other.npz", "notes.npz", "cut.npz", "flipped.npz", "none.npz", "."
    ):  # fmt: skip
        with pytest.raises(ClusteringError) as told:
            read_vocabulary(tmp_path / name)
        assert "\n" not in str(told.value)


def test_a_newer_schema_says_so(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "v.npz", of_embeddings())
    with np.load(tmp_path / "v.npz") as file:
        arrays = {one: file[one] for one in file.files}
    np.savez(tmp_path / "v.npz", **{**arrays, "schema": np.array(2)})
    with pytest.raises(ClusteringError, match="newer psm-stream"):
        read_vocabulary(tmp_path / "v.npz")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(ClusteringError, match="name another --out"):
        write_vocabulary(tmp_path / "taken" / "v.npz", of_embeddings())
    path = tmp_path / "v.npz"
    write_vocabulary(path, of_embeddings())
    before = path.read_bytes()
    with pytest.raises(ClusteringError, match="not finite"):
        write_vocabulary(path, replace(of_embeddings(), centres=np.full((20, 8), np.inf, np.float32)))
    assert path.read_bytes() == before
