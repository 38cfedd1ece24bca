"""Vocabularies of made-up expressions: what was put in is found, and the published defects are not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.adapt.vocabulary.expressions import blendshapes_of, turns

from psm_adapt.vocabulary.glove import GloveSettings
from psm_adapt.vocabulary.making import FitSettings, make_vocabulary, train
from psm_adapt.vocabulary.neighbours import by_centres, by_vectors, itself, vector_of
from psm_adapt.vocabulary.tokens import numbers_of, points_of, tokens_of
from psm_adapt.vocabulary.tracks import Track
from psm_stream.clusters.units import UNIT_NAMES, from_blendshapes
from psm_stream.clusters.vocabulary import END, START, UNKNOWN, Vocabulary
from psm_stream.errors import AdaptationError, ConfigError

UNITS_4 = FitSettings(size=4, feature="units")
FEW = GloveSettings(dimensions=8, iterations=300)


def track_of(expressions: list[str], seed: int = 0, person: str = "p") -> Track:
    units = np.array([from_blendshapes(row) for row in blendshapes_of(expressions, seed)])
    vectors = np.random.default_rng(seed).normal(size=(len(expressions), 3)).astype(np.float32)
    return Track(f"{person}/{seed}", person, np.arange(len(expressions)) / 5, units, vectors)


@pytest.fixture
def tracks(rng: np.random.Generator) -> list[Track]:
    return [track_of(turns(rng, 80), seed) for seed in range(4)]


def token_by_expression(vocabulary: Vocabulary) -> dict[str, str]:
    shown = ["neutral", "smile", "jaw", "brow"]
    return dict(zip(shown, tokens_of(track_of(shown, 99), replace(vocabulary, limit=np.inf))[1:-1], strict=True))


def test_each_expression_has_its_token_and_its_profile(tracks: list[Track]) -> None:
    made = make_vocabulary(tracks, "blendshapes", "", UNITS_4)
    vocabulary = made.vocabulary
    token = token_by_expression(vocabulary)
    assert len(set(token.values())) == 4
    assert itself(vocabulary, token["smile"]).profile[0][0] == "AU12"
    assert itself(vocabulary, token["jaw"]).profile[0][0] == "AU26"
    assert itself(vocabulary, token["brow"]).profile[0][0] == "AU1"
    assert (np.diff(vocabulary.counts) <= 0).all()  # c0 is seen most often
    about = json.loads(vocabulary.about)
    assert (about["people"], about["recordings"], about["faces"]) == (1, 4, 320)
    assert "p/0" not in vocabulary.about  # nobody is named


def test_the_same_seed_gives_the_same_vocabulary(tracks: list[Track]) -> None:
    one, other = (make_vocabulary(tracks, "blendshapes", "", UNITS_4).vocabulary for _ in range(2))
    np.testing.assert_array_equal(one.centres, other.centres)
    np.testing.assert_array_equal(one.counts, other.counts)


def test_faces_are_counted_after_the_far_ones_are_left_out(tracks: list[Track]) -> None:
    """Published: centres with up to 6,179 members were dropped, so the rule of 500 was applied to what was near."""
    limit = float(np.median(make_vocabulary(tracks, "blendshapes", "", UNITS_4).distances))
    made = make_vocabulary(tracks, "blendshapes", "", replace(UNITS_4, limit=limit, min_count=5))
    points = np.concatenate([points_of(track, made.vocabulary) for track in tracks])
    apart = np.linalg.norm(points[:, None].astype(np.float64) - made.vocabulary.centres[None], axis=2)
    near = apart.min(axis=1) <= limit
    assert near.mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(made.vocabulary.counts, np.bincount(apart.argmin(axis=1)[near], minlength=4))
    numbers = numbers_of(points, made.vocabulary)
    assert (numbers[~near] == -1).all()


def test_the_rule_of_counts_takes_a_centre_that_has_just_enough(tracks: list[Track]) -> None:
    """The paper says fewer than 500, the published program drops 500 itself, too; here fewer is fewer."""
    counts = make_vocabulary(tracks, "blendshapes", "", UNITS_4).vocabulary.counts
    third = int(counts[2])
    assert counts[3] < third
    made = make_vocabulary(tracks, "blendshapes", "", replace(UNITS_4, min_count=third)).vocabulary
    assert [made.token(number) for number in range(4)] == ["c0", "c1", "c2", UNKNOWN]


def test_the_limit_that_is_chosen_leaves_one_face_in_a_hundred_out(tracks: list[Track]) -> None:
    made = make_vocabulary(tracks, "blendshapes", "", UNITS_4)
    assert (made.distances > made.vocabulary.limit).mean() == pytest.approx(0.01, abs=0.004)
    assert made.vocabulary.min_count == round(0.1 * 320 / 4)


def test_a_unit_that_is_never_told_is_no_feature_and_faces_that_lack_another_are_left_out(tracks: list[Track]) -> None:
    dimpler = UNIT_NAMES.index("AU14")
    for track in tracks:
        track.units[:, dimpler] = np.nan  # from landmarks
    tracks[0].units[3, 0] = np.nan
    made = make_vocabulary(tracks, "landmarks", "", UNITS_4)
    assert made.vocabulary.features == tuple(name for name in UNIT_NAMES if name != "AU14")
    assert made.left_out == 1
    assert np.isnan(made.vocabulary.profiles[:, dimpler]).all()
    assert len(itself(made.vocabulary, "c0").profile) <= 4


def test_a_unit_that_never_changes_does_no_harm(tracks: list[Track]) -> None:
    for track in tracks:
        track.units[:, 5] = 0.25
    assert np.isfinite(make_vocabulary(tracks, "blendshapes", "", UNITS_4).vocabulary.centres).all()


def test_embeddings_are_clustered_as_they_are(tracks: list[Track]) -> None:
    made = make_vocabulary(tracks, "blendshapes", "0123456789ab", FitSettings(size=5, feature="embedding")).vocabulary
    assert (made.model_id, made.source, made.features) == ("0123456789ab", "", ())
    assert made.scale.tolist() == [1, 1, 1]
    assert made.profiles.shape == (5, len(UNIT_NAMES))


def test_every_face_may_have_a_centre_of_its_own() -> None:
    track = track_of(["neutral", "smile", "jaw", "brow"])
    made = make_vocabulary([track], "blendshapes", "", UNITS_4).vocabulary
    assert made.counts.tolist() == [1, 1, 1, 1]
    with pytest.raises(AdaptationError, match="--size 4 or fewer"):
        make_vocabulary([track], "blendshapes", "", replace(UNITS_4, size=5))


def test_vectors_are_trained_for_what_was_there_and_for_nothing_else(tracks: list[Track]) -> None:
    vocabulary = make_vocabulary(tracks, "blendshapes", "", UNITS_4).vocabulary
    token = token_by_expression(vocabulary)
    without_jaw = [track_of(["neutral", "smile", "brow", "smile"] * 10, seed) for seed in (50, 51)]
    trained = train(without_jaw, replace(vocabulary, limit=np.inf), FEW, lambda *_: None)
    made = trained.vocabulary
    assert set(made.vector_tokens) == {START, END, token["neutral"], token["smile"], token["brow"]}
    assert trained.tokens == 2 * 42 == made.vector_counts.sum()
    assert dict(zip(made.vector_tokens, made.vector_counts, strict=True))[START] == 2
    with pytest.raises(ConfigError, match=f"{token['jaw']}.*has no vector"):
        by_vectors(made, token["jaw"], 3)


def test_the_unknown_token_has_a_vector_and_what_has_none_shares_it(tracks: list[Track]) -> None:
    """Published: Keras strips the brackets, so that <unk>, and each token that was not kept, gets a vector of zeros."""
    vocabulary = make_vocabulary(tracks, "blendshapes", "", UNITS_4).vocabulary
    rare = replace(vocabulary, min_count=int(vocabulary.counts[3]) + 1)
    made = train(tracks, rare, FEW, lambda *_: None).vocabulary
    assert UNKNOWN in made.vector_tokens
    assert np.linalg.norm(vector_of(made, UNKNOWN)) > 0.1
    np.testing.assert_array_equal(vector_of(made, "c3"), vector_of(made, UNKNOWN))
    assert not np.array_equal(vector_of(made, "c0"), vector_of(made, "c1"))


def test_a_vector_is_found_by_its_token_whatever_the_order_of_rows(tracks: list[Track]) -> None:
    """Published: 789 rows of vectors and an index that does not fit them."""
    vocabulary = make_vocabulary(tracks, "blendshapes", "", UNITS_4).vocabulary
    made = train(tracks, vocabulary, FEW, lambda *_: None).vocabulary
    order = np.random.default_rng(1).permutation(len(made.vector_tokens))
    turned = replace(
        made, vectors=made.vectors[order], vector_tokens=tuple(np.array(made.vector_tokens)[order].tolist())
    )
    for token in made.vector_tokens:
        np.testing.assert_array_equal(vector_of(made, token), vector_of(turned, token))
    before, after = ([(one.token, round(one.nearness, 5)) for one in by_vectors(v, "c0", 9)] for v in (made, turned))
    assert before == after


def test_expressions_that_keep_the_same_company_are_neighbours(rng: np.random.Generator) -> None:
    """Neutral goes with smiles and brows with jaws; how they look says nothing of that."""
    tracks = []
    for seed in range(12):
        company = ("neutral", "smile") if seed % 2 else ("brow", "jaw")
        tracks.append(track_of(turns(rng, 60, company), seed))
    vocabulary = replace(make_vocabulary(tracks, "blendshapes", "", UNITS_4).vocabulary, limit=np.inf)
    token = token_by_expression(vocabulary)
    made = train(tracks, vocabulary, FEW, lambda *_: None).vocabulary
    for one, other in (("neutral", "smile"), ("smile", "neutral"), ("brow", "jaw"), ("jaw", "brow")):
        words = [near.token for near in by_vectors(made, token[one], 9) if near.token.startswith("c")]
        assert words[0] == token[other]


def test_neighbours_by_centres_are_those_that_look_alike(tracks: list[Track]) -> None:
    made = make_vocabulary(tracks, "blendshapes", "", replace(UNITS_4, size=12)).vocabulary
    centres = {made.token(n): made.centres[n] for n in range(12) if made.is_word[n]}
    near = by_centres(made, "c0", 3)
    distances = {token: float(np.linalg.norm(centre - centres["c0"])) for token, centre in centres.items()}
    assert [one.token for one in near] == sorted(distances, key=distances.__getitem__)[1:4]
    assert [-one.nearness for one in near] == pytest.approx(sorted(distances.values())[1:4], rel=1e-5)
    with pytest.raises(ConfigError, match="did you mean c1"):
        by_centres(made, "c1x", 3)
    with pytest.raises(ConfigError, match="psm-adapt vocabulary train"):
        by_vectors(made, "c0", 3)


def test_one_token_alone_cannot_be_trained() -> None:
    tracks = [track_of(["smile", "neutral"] * 5)]
    made = make_vocabulary(tracks, "blendshapes", "", replace(UNITS_4, size=1)).vocabulary
    with pytest.raises(AdaptationError, match="fewer than two tokens"):
        train(tracks, made, FEW, lambda *_: None)
