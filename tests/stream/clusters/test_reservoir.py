"""Which faces are kept to fit clusters on: recent ones, and a fair share of every cluster that was seen."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.clusters.reservoir import Reservoir, Row, drawn
from psm_stream.config import ClustersSettings
from psm_stream.record.testing import a_face
from psm_stream.values import NAN, Assignment, Embedding, Stamp

FACE = replace(a_face(Stamp(0, 0.0)), confidence=0.9)


def embedding(index: int, known: int = -1, *, t: float | None = None, **of_face: object) -> Embedding:
    t_capture = index / 30 if t is None else t
    face = replace(FACE, frame=Stamp(index, t_capture), **of_face)  # type: ignore[arg-type]
    return Embedding(face, np.full(4, index, np.float32), "aaa", 0, Assignment(known))


def reservoir(**settings: object) -> Reservoir:
    return Reservoir(ClustersSettings(**{"capacity": 50, "min_cluster_size": 5, **settings}))


def filled(ids: list[int], **settings: object) -> Reservoir:
    kept = reservoir(**settings)
    for index, known in enumerate(ids):
        kept.offer(embedding(index, known), all_of_them=True)
    return kept


def counts(kept: Reservoir) -> dict[int, int]:
    return dict(Counter(row.known for row in kept.rows()))


def test_a_face_is_taken_as_it_is() -> None:
    kept, one = reservoir(), embedding(7, known=3)
    assert kept.offer(one, all_of_them=True)

    (row,) = kept.rows()
    assert row == Row(0, FACE.face_id, 7, 7 / 30, one.face.crop, one.vector, "aaa", 3)
    assert row.crop is one.face.crop
    assert kept.written == 1


@pytest.mark.parametrize(("confidence", "is_taken"), [(0.79, False), (0.8, True), (NAN, True)])
def test_faces_that_the_aligner_doubts_are_not_taken(confidence: float, is_taken: bool) -> None:
    assert reservoir().offer(embedding(0, confidence=confidence), all_of_them=True) == is_taken


def test_five_a_second_are_taken_of_each_face() -> None:
    kept = reservoir(rate_hz=5, capacity=200)
    for index in range(300):
        for face in (0, 1):
            kept.offer(embedding(index, t=index / 30 + 0.004 * (index % 3), face_id=face), all_of_them=False)

    assert kept.written == 100
    assert Counter(row.face_id for row in kept.rows()) == {0: 50, 1: 50}


def test_a_slow_stream_gives_all_it_has() -> None:
    kept = reservoir(rate_hz=5)
    assert all(kept.offer(embedding(index, t=index / 3), all_of_them=False) for index in range(10))


def test_a_source_that_begins_again_is_not_waited_for() -> None:
    kept = reservoir()
    assert kept.offer(embedding(0, t=100.0), all_of_them=False)
    assert kept.offer(embedding(1, t=0.0), all_of_them=False)
    assert not kept.offer(embedding(2, t=0.1), all_of_them=False)


def test_the_medium_s_own_time_counts_where_there_is_one() -> None:
    kept = reservoir()
    for index in range(31):  # a file that is read ten times as fast as it was filmed
        one = embedding(index)
        frame = Stamp(index, index / 300, t_source=index / 30)
        kept.offer(replace(one, face=replace(one.face, frame=frame)), all_of_them=False)

    assert [row.t for row in kept.rows()] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_half_are_the_newest_and_the_others_are_shared_fairly() -> None:
    kept = filled([0] * 300 + [1] * 8 + [2] * 300 + [-1] * 100)
    rows = kept.rows()

    assert len(rows) == 50
    assert {row.key for row in rows} > set(range(708 - 25, 708))
    assert Counter(row.known for row in rows if row.key < 708 - 25) == {0: 6, 1: 6, 2: 6, -1: 7}


def test_a_rare_cluster_is_kept_for_as_long_as_it_takes() -> None:
    kept = filled([-1] * 50 + [3] * 10 + [0, 1] * 5000)
    assert counts(kept)[3] == 6


def test_what_is_kept_of_a_group_is_a_fair_sample_of_all_it_had() -> None:
    """The mean age of what is left of 0..399 is that of all, within four standard errors."""
    ages = [row.key for seed in range(40) for row in filled([0] * 425, seed=seed).rows() if row.key < 400]

    assert len(ages) == 40 * 25
    assert np.mean(ages) == pytest.approx(199.5, abs=4 * 400 / np.sqrt(12 * len(ages)))


def test_numbers_are_those_of_splitmix() -> None:
    """Its first three from state 0, as published with the xoshiro generators."""
    assert [drawn(key, 0) for key in (1, 2, 3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_the_seed_says_which() -> None:
    keys = [[row.key for row in filled([0] * 500, seed=seed).rows()] for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


def test_the_id_last_seen_longest_ago_is_forgotten_when_too_many_are_known() -> None:
    kept = filled([one for one in range(9) for _ in range(50)])
    old = Counter(row.known for row in kept.rows() if row.key < 450 - 25)

    assert old == {5: 6, 6: 6, 7: 6, 8: 7}  # four, and there is room for noise


def test_a_fit_s_findings_are_noted_and_rows_that_left_are_passed_over() -> None:
    kept = filled([-1] * 30)
    keys = [row.key for row in kept.rows()]
    kept.offer(embedding(30), all_of_them=True)
    vectors = np.arange(32 * 3, dtype=np.float32).reshape(32, 3)
    known, before = np.arange(32, dtype=np.int32) % 2, np.full(32, -1, np.int32)
    before[4] = 9
    kept.update([*keys, 999, 1000], vectors=vectors, model_id="bbb", known=known, before=before)

    rows = {row.key: row for row in kept.rows()}
    for place, key in enumerate(keys):
        assert rows[key].vector.tolist() == vectors[place].tolist()
        assert (rows[key].model_id, rows[key].known) == ("bbb", place % 2)
    assert rows[keys[4]].before == 9
    assert rows[30].model_id == "aaa"
    assert rows.keys() == {*keys, 30}


def test_rows_in_somebody_s_hands_do_not_change() -> None:
    kept = filled([-1] * 30)
    rows = kept.rows()
    kept.update([row.key for row in rows], vectors=None, model_id="aaa", known=np.zeros(30, np.int32))

    assert {row.known for row in rows} == {-1}
    assert {row.known for row in kept.rows()} == {0}
    assert all(now.vector is row.vector for now, row in zip(kept.rows(), rows, strict=True))


def test_faces_of_an_earlier_session_are_kept_and_can_be_found_again() -> None:
    seeds = [Row(-1 - place, -1, -1, NAN, FACE.crop, np.zeros(4, np.float32), "aaa", place % 3) for place in range(24)]
    kept = reservoir()
    kept.seed(seeds)
    for index in range(1000):
        kept.offer(embedding(index, known=0), all_of_them=True)

    assert counts(kept)[1] == counts(kept)[2] == 8
    assert {row.key for row in kept.rows() if row.known == 1} == {seed.key for seed in seeds if seed.known == 1}


def test_too_many_from_an_earlier_session_are_cut_down() -> None:
    kept = reservoir()
    kept.seed(Row(-1 - at, -1, -1, NAN, FACE.crop, np.zeros(4, np.float32), "aaa", at // 32) for at in range(320))

    assert len(kept.rows()) == 25
    assert set(counts(kept).values()) == {6, 7}  # of four ids: there is room for noise


@given(
    st.lists(st.tuples(st.integers(-1, 6), st.booleans()), max_size=200),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_it_is_never_too_full_never_unfair_and_remembers_who_came_last(
    faces: list[tuple[int, bool]], size: int, seed: int
) -> None:
    kept = reservoir(min_cluster_size=max(2, size), seed=seed)
    draw = np.random.default_rng(seed)
    for index, (known, is_fit) in enumerate(faces):
        kept.offer(embedding(index, known), all_of_them=True)
        if is_fit:
            rows = kept.rows()
            new = np.where(draw.random(len(rows)) < 0.2, draw.integers(-1, 7, len(rows)), [row.known for row in rows])
            kept.update([row.key for row in rows], vectors=None, model_id="aaa", known=new.astype(np.int32))
        rows = kept.rows()
        keys = [row.key for row in rows]
        assert len(set(keys)) == len(keys) <= 50
        assert set(keys) >= set(range(max(0, index - 24), index + 1))
        groups = Counter(row.known for row in rows if row.key < index - 24)
        assert sum(groups.values()) <= 25
        assert len(groups.keys() - {-1}) < max(2, 25 // max(2, size))


@given(st.lists(st.integers(-1, 3), min_size=60, max_size=300), st.integers(0, 3))
def test_as_long_as_nothing_is_fitted_it_is_the_slow_obvious_one(ids: list[int], seed: int) -> None:
    """The slow one: whenever it is too full, count the groups and throw out of the largest what has drawn highest."""
    kept = filled(ids, seed=seed)
    groups: dict[int, list[int]] = defaultdict(list)
    for key, known in enumerate(ids[:-25]):
        groups[known].append(key)
        if sum(map(len, groups.values())) > 25:
            largest = max(len(group) for group in groups.values())
            out_of = next(group for group in groups.values() if len(group) == largest)
            out_of.remove(max(out_of, key=lambda key: drawn(key, seed)))

    assert sorted(row.key for row in kept.rows()) == sorted(sum(groups.values(), list(range(len(ids) - 25, len(ids)))))
