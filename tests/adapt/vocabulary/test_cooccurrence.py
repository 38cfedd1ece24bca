"""Pairs of tokens, against the obvious loop."""

import numpy as np
import pytest

from psm_adapt.vocabulary.cooccurrence import cooccurrences


def slowly(tracks: list[list[int]], size: int, window: int) -> np.ndarray:
    """Look left of each token, and count both ways."""
    counts = np.zeros((size, size))
    for track in tracks:
        for place, token in enumerate(track):
            for other in range(max(0, place - window), place):
                counts[token, track[other]] += 1
                counts[track[other], token] += 1
    return counts


@pytest.mark.parametrize("window", [1, 3, 10, 50])
def test_it_equals_the_obvious_loop(window: int, rng: np.random.Generator) -> None:
    tracks = [rng.integers(0, 7, n) for n in (0, 1, 2, 5, 40)]
    counted = cooccurrences(tracks, 7, window)
    np.testing.assert_array_equal(counted, slowly([track.tolist() for track in tracks], 7, window))
    np.testing.assert_array_equal(counted, counted.T)


def test_a_token_near_itself_counts_twice_and_distance_does_not_weigh() -> None:
    np.testing.assert_array_equal(cooccurrences([np.array([0, 0])], 1, 10), [[2]])
    far = cooccurrences([np.array([0, 2, 2, 2, 1])], 3, 4)
    assert far[0, 1] == far[1, 0] == 1
    assert far[2, 2] == 6


def test_nothing_is_counted_across_tracks() -> None:
    assert not cooccurrences([np.array([0]), np.array([1])], 2, 10).any()
