"""The novel-cluster metric: a person like the published SN001, a slow obvious version, properties, undefined cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from psm_adapt.clusters.novel import ALIKE, Profiles, compare_profiles, likeness, novelty, profiles
from psm_stream.errors import AdaptationError

UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
"""DISFA's twelve."""

# How often which action units are on in some person's clusters, made up so that the answer is that for SN001.
PSM = {
    -1: {4: 0.3, 12: 0.2, 25: 0.35, 26: 0.1},
    0: {4: 0.05},
    1: {12: 0.95, 6: 0.7, 25: 0.8},
    2: {25: 0.9, 26: 0.75},
    3: {1: 0.9, 2: 0.85, 5: 0.4},
    4: {},
}
GM = {
    -1: {4: 0.25, 12: 0.25, 25: 0.4, 26: 0.15, 1: 0.1, 2: 0.1},
    0: {4: 0.1},
    1: {12: 0.9, 6: 0.6, 25: 0.85},
    2: {25: 1.0, 26: 0.65},
    3: {},
}
FRAMES = 20
"""In each cluster; every frequency above is so many twentieths."""


def frequencies_of(clusters: dict[int, dict[int, float]]) -> np.ndarray:
    return np.array([[row.get(unit, 0.0) for unit in UNITS] for row in clusters.values()])


def frames_of(clusters: dict[int, dict[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels [n] and action units [n, 12] of frames in which every frequency is exactly as given."""
    on = (np.round(frequencies_of(clusters) * FRAMES)[:, None] > np.arange(FRAMES)[:, None]).reshape(-1, len(UNITS))
    return np.repeat(list(clusters), FRAMES), on


def slow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The published formula, pair by pair."""
    plain = np.array([[pearsonr(one, other)[0] - sum(map(abs, one - other)) for other in second] for one in first])
    return (plain - plain.min()) / (plain.max() - plain.min())


def compared(first: dict[int, dict[int, float]], second: dict[int, dict[int, float]]):
    return compare_profiles(*(profiles(*frames_of(clusters)) for clusters in (first, second)))


def test_a_person_like_sn001():
    found = compared(PSM, GM)
    assert found.novel_first == (3,)
    assert found.novel_second == ()
    assert found.likeness.shape == (5, 4)  # noise is compared; what never shows an action unit is not


def test_frames_give_their_frequencies():
    found = profiles(*frames_of(PSM))
    np.testing.assert_array_equal(found.labels, [-1, 0, 1, 2, 3])
    np.testing.assert_allclose(found.frequencies, frequencies_of(PSM)[:5], atol=1e-12)


def test_the_matrix_is_the_formula():
    first, second = frequencies_of(PSM)[:5], frequencies_of(GM)[:4]
    np.testing.assert_allclose(likeness(first, second), slow(first, second), atol=1e-12)


def test_the_distance_is_l1():
    """Three pairs whose correlation is 1, so that the distance alone tells them apart; Euclid's says otherwise."""
    base = np.linspace(0, 0.5, 12)[None]
    large = np.linspace(0, 0.5, 12) * 1.9
    shifted = np.linspace(0, 0.5, 12) + 0.3
    l1, l2 = ([np.linalg.norm(base[0] - other, order) for other in (large, shifted)] for order in (1, 2))
    assert l1[0] / l1[1] < 0.8 < l2[0] / l2[1]
    found = likeness(base, np.stack([base[0], large, shifted]))
    np.testing.assert_allclose(found, [[1, 1 - l1[0] / l1[1], 0]], atol=1e-12)


def test_noise_is_compared_like_a_cluster():
    """Without GM's noise the PSM's would be novel, and the other way round."""
    with_noise = compared({-1: {1: 1.0}, 0: {12: 1.0}}, {-1: {1: 1.0}, 0: {12: 0.9}})
    assert (with_noise.novel_first, with_noise.novel_second) == ((), ())
    without = compared({-1: {1: 1.0}, 0: {12: 1.0}}, {0: {12: 0.9}})
    assert (without.novel_first, without.novel_second) == ((-1,), ())


def test_the_threshold_is_exclusive():
    first = Profiles(np.array([0, 1]), np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    second = Profiles(np.array([0, 1]), np.array([[1.0, 0, 0], [0.2, 0.8, 0]]))
    matrix = likeness(first.frequencies, second.frequencies)
    best = float(matrix[1].max())
    assert best < 1
    assert compare_profiles(first, second, best).novel_first == (1,)
    assert compare_profiles(first, second, np.nextafter(best, 0)).novel_first == ()


def test_the_scale_is_the_persons_worst_pair():
    """The weakness of the published scale: a cluster stops being novel because of another one that is odder still."""
    clusters = {0: {12: 1.0}, 1: {25: 1.0, 12: 0.2}}
    others = {0: {12: 1.0}, 1: {25: 0.6, 12: 0.4}}
    before = compared(clusters, others)
    after = compared({**clusters, 2: dict.fromkeys((1, 2, 4, 5, 6, 9, 15, 17, 20), 1.0)}, others)
    assert before.novel_first == (1,)
    assert after.novel_first == (2,)


cases = st.tuples(st.integers(2, 60), st.integers(1, 5), st.sampled_from((0.02, 0.2, 0.6)), st.integers(0, 10**6))


def frames_from(case: tuple[int, int, float, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two clusterings int [n] and action units bool [n, 5]."""
    count, clusters, share, seed = case
    draw = np.random.default_rng(seed)
    first, second = draw.integers(-1, clusters, (2, count))
    return first, second, draw.random((count, 5)) < share


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(0, 2**32 - 1))
def test_properties(case, seed):
    first, second, units = frames_from(case)
    found = novelty(first, second, units)
    known = found.likeness[~np.isnan(found.likeness)]
    if known.size:
        assert (known.min(), known.max()) == (0, 1)
        assert len(found.novel_first) < len(found.first.labels)  # the most alike pair is in nobody's list
        assert len(found.novel_second) < len(found.second.labels)
    else:
        assert (found.novel_first, found.novel_second) == ((), ())
    turned = novelty(second, first, units)
    np.testing.assert_allclose(turned.likeness, found.likeness.T, atol=1e-9)
    order = np.random.default_rng(seed).permutation(len(first))
    shuffled = novelty(first[order], second[order], units[order])
    np.testing.assert_allclose(shuffled.likeness, found.likeness, atol=1e-9)
    swapped = novelty(first, second, units[:, ::-1])
    np.testing.assert_allclose(swapped.likeness, found.likeness, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_nothing_is_novel_next_to_itself(case):
    labels, _, units = frames_from(case)
    found = novelty(labels, labels, units)
    assert (found.novel_first, found.novel_second) == ((), ())
    diagonal = np.diag(found.likeness)
    np.testing.assert_allclose(diagonal[~np.isnan(diagonal)], 1)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_new_names_change_nothing_else(case):
    first, second, units = frames_from(case)
    found = novelty(first, second, units)
    renamed = novelty(4 - first, second, units)
    np.testing.assert_allclose(renamed.likeness, found.likeness[::-1], atol=1e-9)
    assert sorted(renamed.novel_first) == sorted(4 - label for label in found.novel_first)
    assert renamed.novel_second == found.novel_second


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 20))
def test_frames_without_any_action_unit_in_clusters_of_their_own_change_nothing(case, more):
    first, second, units = frames_from(case)
    found = novelty(first, second, units)
    longer = novelty(
        np.append(first, np.full(more, 8)), np.append(second, np.full(more, 9)), np.pad(units, ((0, more), (0, 0)))
    )
    np.testing.assert_array_equal(longer.likeness, found.likeness)
    assert (longer.novel_first, longer.novel_second) == (found.novel_first, found.novel_second)


def test_one_pair_says_nothing():
    found = novelty(np.zeros(4, int), np.zeros(4, int), np.eye(4, dtype=bool))
    assert np.isnan(found.likeness).all()
    assert (found.novel_first, found.novel_second) == ((), ())


def test_no_action_unit_anywhere():
    found = novelty(np.array([0, 0, 1]), np.array([-1, 0, 0]), np.zeros((3, 12), bool))
    assert found.likeness.shape == (0, 0)
    assert (found.novel_first, found.novel_second) == ((), ())


def test_a_flat_profile_correlates_with_flat_ones_alone():
    """Pearson's r is undefined there."""
    flat, lower, peaked = np.full(4, 0.5), np.full(4, 0.25), np.array([1.0, 0, 0, 0])
    found = likeness(flat[None], np.stack([flat, lower, peaked]))
    plain = np.array([1 - 0, 1 - 1, 0 - 2])
    np.testing.assert_allclose(found, [(plain + 2) / 3], atol=1e-12)


def test_lengths_must_agree():
    with pytest.raises(AdaptationError, match=r"3 clustered frames need action units \[3, A\]"):
        profiles(np.zeros(3, int), np.zeros((2, 12), bool))


def test_the_threshold_is_the_published_one():
    assert ALIKE == 0.8
