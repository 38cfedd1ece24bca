"""Tokens of tracks: the same as the live path's, and by name."""

from dataclasses import replace

import numpy as np
import pytest
from tests.stream.clusters.vocabularies import FROM_LANDMARKS, of_embeddings, of_units

from psm_adapt.vocabulary.tokens import numbered, numbers_of, points_of, tokens_of, words_in
from psm_adapt.vocabulary.tracks import Track
from psm_stream.clusters.units import UNIT_NAMES
from psm_stream.clusters.vocabulary import END, START, UNKNOWN
from psm_stream.clusters.vocabulary_method import VocabularyMethod, arrays_of


def track_of(vectors: np.ndarray | None = None, units: np.ndarray | None = None) -> Track:
    count = len(vectors if units is None else units)
    blank = np.full((count, len(UNIT_NAMES)), np.nan, np.float32)
    return Track("r", "p", np.arange(count) / 5, blank if units is None else units, vectors)


def test_tokens_are_those_that_are_published_live(rng: np.random.Generator) -> None:
    method = VocabularyMethod()
    vectors = (1.3 * rng.normal(size=(500, 8))).astype(np.float32)
    units = np.full((500, len(UNIT_NAMES)), np.nan, np.float32)
    units[:, [UNIT_NAMES.index(name) for name in FROM_LANDMARKS]] = rng.normal(size=(500, len(FROM_LANDMARKS)))
    units[7, 0] = np.nan
    for vocabulary, track, rows in (
        (of_embeddings(limit=2.2), track_of(vectors), vectors),
        (of_units(), track_of(units=units), units),
    ):
        fitted = arrays_of(vocabulary)
        assign, say = method.assigner(fitted), method.tokens(fitted)
        live = [say(assign(row)[0]) for row in rows]
        tokens = tokens_of(track, vocabulary)
        assert tokens == [START, *live, END]
        assert {UNKNOWN, "c1"} < set(tokens)


def test_a_rare_or_far_or_unmeasured_face_is_unknown() -> None:
    vocabulary = replace(of_embeddings(size=3, limit=0.5), counts=np.array([5, 2, 3]), min_count=3)
    points = np.concatenate([vocabulary.centres, vocabulary.centres[:1] + 1, np.full((1, 8), np.nan, np.float32)])
    assert numbers_of(points, vocabulary).tolist() == [0, -1, 2, -1, -1]


def test_units_are_divided_by_what_the_vocabulary_says() -> None:
    vocabulary = of_units()
    units = np.ones((2, len(UNIT_NAMES)), np.float32)
    np.testing.assert_array_equal(points_of(track_of(units=units), vocabulary)[0], 1 / vocabulary.scale)


def test_words_are_found_by_name() -> None:
    """<unk> is a word like any other, with its brackets, and none is found by its place in another list."""
    sequences = [[START, "c10", "c2", END], [START, "c2", END]]
    words = words_in(sequences)
    assert words == (END, START, UNKNOWN, "c10", "c2")
    assert [row.tolist() for row in numbered(sequences, words)] == [[1, 3, 4, 0], [1, 4, 0]]
    with pytest.raises(KeyError):
        numbered([["unk"]], words)
