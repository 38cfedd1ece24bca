"""Assigning by a vocabulary: the nearest centre, as a slow and obvious search finds it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.stream.clusters.vocabularies import FROM_LANDMARKS, of_embeddings, of_units

from psm_stream.cli.stream import main
from psm_stream.clusters.units import UNIT_NAMES
from psm_stream.clusters.vocabulary import UNKNOWN, Vocabulary, measuring_of, write_vocabulary
from psm_stream.clusters.vocabulary_method import VocabularyMethod, arrays_of
from psm_stream.config import ClustersSettings
from psm_stream.errors import ConfigError

METHOD = VocabularyMethod()


def slowly(vocabulary: Vocabulary, vector: np.ndarray) -> tuple[int, float, float]:
    """Search all centres in float64."""
    point = vector.astype(np.float64) / vocabulary.scale
    distances = [float(np.linalg.norm(centre - point)) for centre in vocabulary.centres.astype(np.float64)]
    label = int(np.argmin(distances))
    nearest, second = sorted(distances)[:2]
    outlier = min(1.0, nearest / vocabulary.limit)
    if nearest > vocabulary.limit or vocabulary.counts[label] < vocabulary.min_count:
        return -1, 0.0, outlier
    return label, 1 - nearest / second, outlier


def test_it_equals_a_slow_search(rng: np.random.Generator) -> None:
    vocabulary = of_embeddings(size=50, limit=2.2, min_count=10)
    vocabulary = replace(vocabulary, scale=rng.uniform(0.5, 2, 8).astype(np.float32))
    assign = METHOD.assigner(arrays_of(vocabulary))
    vectors = (1.3 * rng.normal(size=(2000, 8))).astype(np.float32)
    found = np.array([assign(vector) for vector in vectors])
    np.testing.assert_allclose(found, [slowly(vocabulary, vector) for vector in vectors], atol=1e-5)
    assert 200 < (found[:, 0] < 0).sum() < 1800  # both kinds are there
    assert found[:, 1:].min() >= 0
    assert found[:, 1:].max() <= 1


def test_a_centre_itself_is_certain_and_one_that_is_far_is_unknown() -> None:
    vocabulary = of_embeddings(min_count=0)
    assign = METHOD.assigner(arrays_of(vocabulary))
    for number, centre in enumerate(vocabulary.centres):
        assert assign(centre) == (number, 1.0, 0.0)
    assert assign(vocabulary.centres[0] + 100) == (-1, 0.0, 1.0)
    assert assign(np.full(8, np.nan, np.float32)) == (-1, 0.0, 1.0)


def test_the_only_centre_needs_no_second() -> None:
    assign = METHOD.assigner(arrays_of(of_embeddings(size=1, min_count=0)))
    label, strength, outlier = assign(of_embeddings(size=1).centres[0] + np.float32(0.1))
    assert (label, strength) == (0, 1.0)
    assert 0 < outlier < 1


def test_no_limit_makes_no_outlier() -> None:
    assign = METHOD.assigner(arrays_of(replace(of_embeddings(min_count=0), limit=np.inf)))
    label, _, outlier = assign(np.full(8, 1e4, np.float32))
    assert label >= 0
    assert outlier == 0


def test_units_are_picked_by_name_and_those_of_another_source_are_unknown() -> None:
    """Values from landmarks and from blendshapes are not of one scale; which units can be told says which they are."""
    vocabulary = of_units()
    fitted = arrays_of(vocabulary)
    assign = METHOD.assigner(fitted)
    assert METHOD.takes(fitted) == "units"
    units = np.full(len(UNIT_NAMES), np.nan, np.float32)
    for name, value in zip(FROM_LANDMARKS, vocabulary.centres[4] * vocabulary.scale, strict=True):
        units[UNIT_NAMES.index(name)] = value
    label, strength, _ = assign(units)
    assert label == 4
    assert strength > 0.99
    units[UNIT_NAMES.index("AU14")] = 0.1  # blendshapes tell it
    assert assign(units) == (-1, 0.0, 1.0)
    units[UNIT_NAMES.index("AU14")] = np.nan
    units[UNIT_NAMES.index("AU1")] = np.nan
    assert assign(units) == (-1, 0.0, 1.0)


def test_the_unknown_token_keeps_its_brackets() -> None:
    """The published notebooks tokenise with Keras, which strips them, so that <unk> was a token without a vector."""
    say = METHOD.tokens(arrays_of(of_embeddings()))
    assert [say(label) for label in (-1, 0, 12)] == [UNKNOWN, "c0", "c12"] == ["<unk>", "c0", "c12"]


def test_fit_reads_the_file_and_sorts_what_is_there_into_it(tmp_path: Path, rng: np.random.Generator) -> None:
    vocabulary = of_embeddings()
    write_vocabulary(tmp_path / "v.npz", vocabulary)
    settings = ClustersSettings(method="vocabulary", vocabulary=tmp_path / "v.npz")
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    fit = METHOD.fit(vectors, settings)
    expected = np.array([slowly(vocabulary, vector) for vector in vectors])
    np.testing.assert_array_equal(fit.labels, expected[:, 0])
    np.testing.assert_allclose(fit.strengths, expected[:, 1], atol=1e-5)
    assert all(array.dtype.kind != "O" for array in fit.fitted.values())
    none = METHOD.fit(vectors[:0], settings)
    assert len(none.labels) == len(none.strengths) == 0


def test_no_file_is_told() -> None:
    with pytest.raises(ConfigError, match=r"clusters\.vocabulary names no file"):
        METHOD.fit(np.zeros((1, 8), np.float32), ClustersSettings(method="vocabulary"))


def test_a_run_whose_aligner_measures_other_units_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else every face would be <unk>, without a word."""
    shapes = replace(of_units(UNIT_NAMES), source="blendshapes", measuring=measuring_of("blendshapes"))
    write_vocabulary(tmp_path / "v.npz", shapes)
    words = ["--source", "demo", "--clusters.method", "vocabulary", "--clusters.vocabulary", str(tmp_path / "v.npz")]
    assert main([*words, "--adapt", "off", "--control-port", "auto"]) == 2
    assert "units from blendshapes, and the aligner gives landmarks" in capsys.readouterr().err
