"""Ids are carried on by the faces that clusters share, and whatever happens to one is told."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from psm_stream.clusters.clustering import Change
from psm_stream.clusters.identity import FIRM, Matching, assign, match

NOISE = -1


class Story:
    """Matches one clustering after the other of the same faces, and remembers as the reservoir does."""

    def __init__(self, faces: int, known: Sequence[int] = (), next_id: int = 0) -> None:
        self.known = np.array(known or [-1] * faces, np.int32)
        self.before = np.full(faces, -1, np.int32)
        self.firm: dict[int, int] = {}
        self.next_id = next_id
        self.told: tuple[Change, ...] = ()

    def fit(self, *labels: Sequence[int] | int) -> list[int]:
        """Return the id of each face, after a fit that gave these labels."""
        flat = np.concatenate([np.atleast_1d(np.array(part, np.int32)) for part in labels])
        made = self.match(flat)
        self.known, self.before, self.firm, self.next_id = made.known, made.before, made.firm, made.next_id
        self.told = made.changes
        return now(made, flat)

    def match(self, labels: np.ndarray) -> Matching:
        return match(self.known, labels, frozenset(self.firm), self.next_id, before=self.before, firm=self.firm)

    def whole(self, *labels: Sequence[int] | int) -> None:
        """So many equal fits that every id is firm."""
        for _ in range(FIRM):
            self.fit(*labels)


def now(made: Matching, labels: np.ndarray) -> list[int]:
    return [int(made.ids[label]) if label >= 0 else NOISE for label in labels.tolist()]


def blocks(*sizes: int, first: int = 0) -> list[int]:
    """Labels 0, 1, ... of blocks of faces."""
    return [first + label for label, size in enumerate(sizes) for _ in range(size)]


def test_the_first_clusters_are_numbered_by_size() -> None:
    story = Story(9)

    assert story.fit([1, 1, 0, 0, 0, 0, 2, 2, NOISE]) == [1, 1, 0, 0, 0, 0, 2, 2, NOISE]
    assert story.told == (Change("born", 0, (), 4), Change("born", 1, (), 2), Change("born", 2, (), 2))


def test_labels_in_another_order_change_nothing() -> None:
    story = Story(9)
    story.fit(blocks(4, 3, 2))

    assert story.fit([2, 2, 2, 2, 0, 0, 0, 1, 1]) == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert story.told == ()


def test_noise_keeps_its_memory() -> None:
    story = Story(20)
    story.fit(blocks(10, 10))
    story.fit([0] * 10, [NOISE] * 10)
    assert story.told == (Change("retired", 1, (), 10),)

    assert story.fit([1] * 10, [0] * 10) == [0] * 10 + [1] * 10
    assert story.told == (Change("returned", 1, (), 10),)


def test_an_id_returns_after_many_fits_without_it() -> None:
    story = Story(30)
    story.fit(blocks(10, 10, 10))
    for _ in range(20):
        story.fit([0] * 10, [NOISE] * 10, [1] * 10)

    assert story.fit([2] * 10, [1] * 10, [0] * 10) == blocks(10, 10, 10)


def test_an_id_returns_in_the_larger_part_of_what_it_was() -> None:
    story = Story(30)
    story.fit(blocks(15, 15))
    story.fit([0] * 15, [NOISE] * 15)

    assert story.fit([0] * 15, [1] * 10, [NOISE] * 5) == [0] * 15 + [1] * 10 + [NOISE] * 5


def test_an_id_does_not_return_where_most_of_its_faces_are_among_more_of_others() -> None:
    story = Story(100)
    story.fit([0] * 85, [1] * 15)
    story.fit([0] * 100)

    seen = [story.fit([0] * 60, [1] * 35, [0] * 5) for _ in range(FIRM)]
    assert seen[-1] == [0] * 60 + [2] * 35 + [0] * 5  # ten of the 15 faces of 1 are there
    assert story.told == (Change("split", 0, (2,), 65),)


def test_a_merge_keeps_the_id_of_the_larger_and_its_parts_find_their_ids_again() -> None:
    story = Story(25)
    story.fit(blocks(15, 10))

    assert story.fit([0] * 25) == [0] * 25
    assert story.told == (Change("merged", 0, (1,), 25),)
    seen = [story.fit(blocks(15, 10)) for _ in range(FIRM)]
    assert seen == [[0] * 25] * (FIRM - 1) + [[0] * 15 + [1] * 10]
    assert story.told == (Change("returned", 1, (0,), 10),)


def test_a_young_cluster_splits_at_once_and_the_largest_part_keeps_the_id() -> None:
    story = Story(25)
    story.fit([0] * 25)

    assert story.fit([0] * 10, [1] * 15) == [1] * 10 + [0] * 15
    assert story.told == (Change("split", 0, (1,), 15),)


def test_a_firm_cluster_splits_when_fits_agree() -> None:
    story = Story(25)
    story.whole([0] * 25)

    assert [story.fit(blocks(15, 10)) for _ in range(FIRM - 1)] == [[0] * 25] * (FIRM - 1)
    assert story.told == ()
    assert story.fit(blocks(15, 10)) == [0] * 15 + [1] * 10
    assert story.told == (Change("split", 0, (1,), 15),)


def test_a_cluster_that_is_one_and_two_in_turn_keeps_one_id() -> None:
    story = Story(25)
    story.whole([0] * 25)

    for _ in range(20):
        assert story.fit(blocks(15, 10)) == [0] * 25
        assert story.fit([0] * 25) == [0] * 25
        assert story.told == ()


def test_a_new_cluster_out_of_noise_does_not_wait() -> None:
    story = Story(40)
    story.whole([0] * 20, [NOISE] * 20)

    assert story.fit([0] * 20, [1] * 20) == [0] * 20 + [1] * 20
    assert story.told == (Change("born", 1, (), 20),)


def test_an_id_goes_with_its_faces_and_not_with_a_remainder() -> None:
    """Nine tenths of cluster 1 are in 0 now; the rest is a tenth of something new, which is not cluster 1."""
    story = Story(400)
    story.fit([0] * 200, [1] * 100, [NOISE] * 100)

    assert story.fit([0] * 290, [1] * 110) == [0] * 290 + [2] * 110
    assert story.told == (Change("merged", 0, (1,), 290), Change("born", 2, (), 110), Change("moved", 2, (1,), 110))


def test_faces_that_go_from_one_lasting_cluster_to_another_are_told() -> None:
    story = Story(40)
    story.fit(blocks(20, 20))

    assert story.fit(blocks(18, 22)) == blocks(18, 22)
    assert story.told == (Change("moved", 1, (0,), 22),)


def test_another_session_finds_its_ids_and_gives_new_ones_to_the_new() -> None:
    story = Story(90, known=[3] * 30 + [7] * 30 + [-1] * 30, next_id=9)

    assert story.fit([2] * 30, [0] * 30, [1] * 30) == [3] * 30 + [7] * 30 + [9] * 30
    assert [change.kind for change in story.told] == ["returned", "returned", "born"]


def test_another_session_that_sees_a_cluster_apart_does_not_split_it_at_once() -> None:
    story = Story(60, known=[3] * 40 + [5] * 20, next_id=9)

    assert story.fit([0] * 25, [1] * 15, [2] * 20) == [3] * 40 + [5] * 20


def test_nothing_is_no_error() -> None:
    assert match(np.zeros(0, np.int32), np.zeros(0, np.int32), frozenset(), 0).changes == ()
    assert Story(5).fit([NOISE] * 5) == [NOISE] * 5


def test_when_all_is_noise_every_id_retires() -> None:
    story = Story(20)
    story.fit(blocks(10, 10))
    story.fit([NOISE] * 20)

    assert story.told == (Change("retired", 0, (), 10), Change("retired", 1, (), 10))


def numbered(labels: list[int]) -> list[int]:
    """Labels without gaps, as a method gives them."""
    used = sorted({label for label in labels if label >= 0})
    return [used.index(label) if label >= 0 else NOISE for label in labels]


FITS = st.integers(1, 30).flatmap(
    lambda faces: st.lists(
        st.lists(st.integers(-1, 4), min_size=faces, max_size=faces).map(numbered), min_size=1, max_size=8
    )
)


@given(FITS)
def test_every_change_of_an_id_is_told(fits: list[list[int]]) -> None:
    story, shown = Story(len(fits[0])), [NOISE] * len(fits[0])
    given: set[int] = set()
    for labels in fits:
        alive, next_id, last = set(story.firm), story.next_id, story.known.tolist()
        ids = story.fit(labels)
        here, told = set(story.firm), story.told
        pairs = {frozenset((change.cluster, other)) for change in told for other in change.others}
        for old, new in (*zip(shown, ids, strict=True), *zip(last, ids, strict=True)):
            assert old == new or NOISE in (old, new) or old not in alive or {old, new} in pairs
        begun = [change.cluster for change in told if change.kind in ("born", "returned")]
        begun += [other for change in told if change.kind == "split" for other in change.others]
        ended = [change.cluster for change in told if change.kind == "retired"]
        ended += [other for change in told if change.kind == "merged" for other in change.others]
        assert sorted(begun) == sorted(here - alive)
        assert sorted(ended) == sorted(alive - here)
        returned = {change.cluster for change in told if change.kind == "returned"}
        assert returned <= given
        new_ids = here - alive - returned
        assert not new_ids & given
        assert new_ids == set(range(next_id, story.next_id))
        assert all(1 <= firm <= FIRM for firm in story.firm.values())
        given |= here
        shown = ids


@given(FITS)
def test_a_cluster_that_keeps_its_faces_keeps_its_id(fits: list[list[int]]) -> None:
    """Whatever happens around it, and whatever becomes noise, or was."""
    story = Story(len(fits[0]))
    for labels in fits:
        last, alive = story.known.tolist(), set(story.firm)
        ids = story.fit(labels)
        for label in set(labels) - {NOISE}:
            known = {old for old, new in zip(last, labels, strict=True) if new == label}
            if len(known) == 1 and known <= alive:
                (one,) = known
                if all(new in (label, NOISE) for old, new in zip(last, labels, strict=True) if old == one):
                    assert ids[labels.index(label)] == one


@given(FITS, st.randoms(use_true_random=False))
def test_the_order_of_faces_is_all_one(fits: list[list[int]], random: Random) -> None:
    order = list(range(len(fits[0])))
    random.shuffle(order)
    story, other = Story(len(order)), Story(len(order))
    for labels in fits:
        ids = story.fit(labels)
        assert [ids[face] for face in order] == other.fit([labels[face] for face in order])
        assert story.told == other.told


@given(FITS)
def test_the_same_fit_again_changes_nothing_but_what_was_in_doubt(fits: list[list[int]]) -> None:
    story = Story(len(fits[0]))
    for labels in fits:
        story.fit(labels)
    for _ in range(2 * FIRM):
        story.fit(fits[-1])
    settled = story.fit(fits[-1])

    assert story.fit(fits[-1]) == settled
    assert story.told == ()
    assert len(set(settled)) == len(set(fits[-1]))  # every cluster has an id of its own in the end


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
        lambda shape: st.lists(
            st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1), min_size=shape[1], max_size=shape[1]),
            min_size=shape[0],
            max_size=shape[0],
        )
    )
)
def test_assigning_is_as_good_as_scipys(rows: list[list[float]]) -> None:
    weights = np.array(rows)

    pairs = assign(weights)

    assert len(pairs) == len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(weights.shape)
    best = weights[linear_sum_assignment(weights, maximize=True)].sum()
    assert sum(weights[pair] for pair in pairs) == pytest.approx(best)
