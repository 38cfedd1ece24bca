"""The account of clusters, against a slow one that keeps every frame."""

import json
from collections import Counter
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.clusters.account import APART_S, MOST, PROTOTYPES, ClusterAccount
from psm_stream.clusters.bouts import GAP_S, PASSING_S, SHOWN
from psm_stream.clusters.units import UNIT_NAMES, from_blendshapes, measure
from psm_stream.values import NAN, AlignedFace, Assignment, Embedding, NameCluster, Stamp

VECTOR = np.zeros(4, np.float32)
CROP = np.zeros((8, 8, 3), np.uint8)


def embedding(
    t: float,
    cluster: int,
    *,
    face_id: int = 0,
    version: int = 1,
    strength: float = 0.5,
    outlier: float = 0.1,
    name: str = "",
    shapes: np.ndarray | None = None,
    t_source: float = NAN,
) -> Embedding:
    landmarks = np.full((478, 2), t, np.float32)
    stamp = Stamp(round(t * 1000), t, t_source)
    seen = AlignedFace(stamp, face_id, CROP, landmarks, np.eye(2, 3, dtype=np.float32), 1.0, shapes)
    assignment = Assignment(cluster, strength, outlier, version, name) if version else Assignment()
    return Embedding(seen, VECTOR, "model", 0, assignment)


def account_of(embeddings: list[Embedding]) -> ClusterAccount:
    account = ClusterAccount()
    for one in embeddings:
        account.see(one)
    return account


def entry(table: dict[str, Any], cluster: int) -> dict[str, Any]:
    return next(one for one in table["clusters"] if one["cluster"] == cluster)


@st.composite
def streams(draw: st.DrawFn) -> list[Embedding]:
    """Two faces that go through clusters, with gaps, new clusterings, and a beginning without clusters."""
    stream, t, version = [], 0.0, 0
    for _ in range(draw(st.integers(1, 60))):
        t += draw(st.sampled_from([0.04, 0.1, 0.5, 0.6, 3.0]))
        version += draw(st.sampled_from([0, 0, 0, 1]))
        rng = np.random.default_rng(draw(st.integers(0, 9)))
        shapes = rng.random(52).astype(np.float32) if draw(st.booleans()) else None
        face_id, cluster = draw(st.integers(0, 1)), draw(st.integers(-1, 2))
        strength = draw(st.sampled_from([0.2, 0.5, 1.0]))
        one = embedding(t, cluster, face_id=face_id, version=version, strength=strength, shapes=shapes)
        stream.append(one)
    return stream


@given(streams())
def test_equals_one_that_keeps_every_frame(stream: list[Embedding]) -> None:
    table = account_of(stream).table()
    json.dumps(table, allow_nan=False)
    assigned = [one for one in stream if one.assignment.version]
    assert table["frames"] == len(stream)
    assert table["unassigned"] == len(stream) - len(assigned)
    assert table["noise"]["frames"] == sum(one.assignment.cluster == -1 for one in assigned)
    frames = Counter(one.assignment.cluster for one in assigned)
    assert {one["cluster"]: one["frames"] for one in table["clusters"]} == {c: n for c, n in frames.items() if c >= 0}
    bouts = slow_bouts(stream)
    for one in table["clusters"]:
        seconds = sorted(end - start for cluster, start, end in bouts if cluster == one["cluster"])
        assert one["bouts"] == len(seconds)
        assert one["seconds"] == pytest.approx(sum(seconds), abs=1e-3)
        assert one["dwell_s"]["mean"] == pytest.approx(fmean(seconds), abs=1e-3)
        assert one["dwell_s"]["max"] == pytest.approx(seconds[-1], abs=1e-3)
        middle = seconds[(len(seconds) - 1) // 2]
        assert middle - 1e-3 <= one["dwell_s"]["p50"] <= middle * 1.021 + 1e-3
        check_units(one["units"], stream, one["cluster"])
    check_transitions(table["transitions"], stream)


def slow_bouts(stream: list[Embedding]) -> list[tuple[int, float, float]]:
    """Cluster, begin and end of each run of frames of one face."""
    runs: list[list[float]] = []
    for face_id in (0, 1):
        last: Embedding | None = None
        for one in (one for one in stream if one.face.face_id == face_id):
            if not one.assignment.version:
                continue
            t, cluster = one.face.frame.t_capture, one.assignment.cluster
            is_near = last is not None and t - last.face.frame.t_capture <= GAP_S
            if is_near:
                runs[-1][2] = t  # the time up to this frame belongs to the one before
            if not is_near or last is None or last.assignment.cluster != cluster:
                runs.append([cluster, t, t])
            last = one
    return [(int(cluster), start, end) for cluster, start, end in runs]


def check_units(units: dict[str, dict[str, float | None]], stream: list[Embedding], cluster: int) -> None:
    everybody = np.array([measure(one.face) for one in stream], np.float64)
    inside = everybody[[one.assignment.version > 0 and one.assignment.cluster == cluster for one in stream]]
    for number, name in enumerate(UNIT_NAMES):
        own, all_of_them = (column[np.isfinite(column)] for column in (inside[:, number], everybody[:, number]))
        if not len(own):
            assert units[name] == {"mean": None, "sd": None, "z": None}
            continue
        assert units[name]["mean"] == pytest.approx(fmean(own), abs=1e-4)
        assert units[name]["sd"] == pytest.approx(pstdev(own), abs=1e-4)
        if pstdev(all_of_them) > 1e-6:
            z = (fmean(own) - fmean(all_of_them)) / pstdev(all_of_them)
            assert units[name]["z"] == pytest.approx(z, abs=1e-3)


def check_transitions(transitions: dict[str, Any], stream: list[Embedding]) -> None:
    pairs: Counter[tuple[int, int]] = Counter()
    for face_id in (0, 1):
        for states in slow_states([one for one in stream if one.face.face_id == face_id and one.assignment.version]):
            pairs.update(pair for pair in pairwise(states) if pair[0] != pair[1])
    clusters = transitions["clusters"]
    found = {
        (source, target): transitions["counts"][row][column]
        for row, source in enumerate(clusters)
        for column, target in enumerate(clusters)
    }
    assert {pair: n for pair, n in found.items() if n} == {(a, b): n for (a, b), n in pairs.items() if a != b}


def slow_states(own: list[Embedding]) -> list[list[int]]:
    """What one face was in, in turn, but for noise that passes; a new list where it was away, or a new fit moved it."""
    lists: list[list[list[float]]] = []
    for at, one in enumerate(own):
        t, cluster = one.face.frame.t_capture, one.assignment.cluster
        before = own[at - 1] if at else None
        is_near = before is not None and t - before.face.frame.t_capture <= GAP_S
        if is_near:
            lists[-1][-1][2] = t
        is_same = is_near and before.assignment.cluster == cluster
        if not is_near or (not is_same and before.assignment.version != one.assignment.version):
            lists.append([])
        if not is_same:
            lists[-1].append([cluster, t, t])
    return [[int(c) for c, start, end in runs if c != -1 or end - start >= PASSING_S] for runs in lists]


def test_transitions_are_those_that_the_eye_finds() -> None:
    text = "0" * 40 + "." * 5 + "1" * 9 + "." * 20 + "2" * 9 + "0" * 9 + "." * 3 + "0" * 9 + " " * 20 + "1" * 9
    stream = [
        embedding(at / 30, -1 if letter == "." else int(letter)) for at, letter in enumerate(text) if letter != " "
    ]
    assert account_of(stream).table()["transitions"] == {
        "clusters": [-1, 0, 1, 2],
        "counts": [[0, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]],
    }


def test_a_new_clustering_makes_no_transition_and_a_swap_breaks_nothing() -> None:
    stream = [embedding(0.0, 3), embedding(0.1, 3), embedding(0.2, 3, version=2), embedding(0.3, 4, version=3)]
    table = account_of([*stream, embedding(0.4, 4, version=3)]).table()
    assert table["transitions"] == {"clusters": [], "counts": []}
    assert entry(table, 3)["bouts"] == 1
    assert entry(table, 3)["seconds"] == 0.3
    assert table["version"] == 3


def test_a_file_that_is_run_fast_has_its_own_time() -> None:
    account = account_of([embedding(number / 300, 1, t_source=number / 30) for number in range(31)])
    assert entry(account.table(), 1)["seconds"] == 1.0
    assert entry(account.table(), 1)["prototypes"][0]["t_capture"] == 0.0
    assert account.table()["t"] == 0.1


def test_a_clock_that_goes_back_is_another_run() -> None:
    table = account_of([embedding(100.0, 1), embedding(100.2, 1), embedding(0.0, 1), embedding(0.1, 1)]).table()
    assert entry(table, 1)["seconds"] == 0.3
    assert entry(table, 1)["bouts"] == 2


def test_names_come_with_frames_and_with_orders() -> None:
    account = account_of([embedding(0.0, 2, name="smile")])
    assert entry(account.table(), 2)["name"] == "smile"
    account.named(NameCluster(2, "grin"))
    account.named(NameCluster(7, "of last week"))
    table = account.table()
    assert [(one["cluster"], one["name"], one["frames"]) for one in table["clusters"]] == [
        (2, "grin", 1),
        (7, "of last week", 0),
    ]
    assert entry(table, 7)["dwell_s"] is None
    account.named(NameCluster(7, ""))
    assert len(account.table()["clusters"]) == 1


def test_z_says_in_which_cluster_a_unit_is_high(rng: np.random.Generator) -> None:
    stream = []
    for number in range(200):
        smiles = number % 4 == 0
        shapes = (rng.random(52) * 0.1).astype(np.float32)
        shapes[44:46] += 0.6 * smiles  # mouthSmile
        stream.append(embedding(number / 30, int(smiles), shapes=shapes))
    table = account_of(stream).table()
    profile = entry(table, 1)["units"]
    assert max(profile, key=lambda name: profile[name]["z"]) == "AU12"
    assert profile["AU12"]["z"] == pytest.approx(np.sqrt(3), abs=0.05)  # a quarter of the frames
    assert profile["AU12"]["mean"] == pytest.approx(
        np.mean([from_blendshapes(one.face.blendshapes)[6] for one in stream[::4]]), abs=1e-4
    )
    assert table["units_from"] == "blendshapes"


def test_prototypes_are_the_best_moments_apart_in_time(rng: np.random.Generator) -> None:
    stream = [embedding(number / 30, 0, strength=round(float(rng.random()), 3)) for number in range(1200)]
    account = account_of(stream)
    kept = entry(account.table(), 0)["prototypes"]
    assert len(kept) == PROTOTYPES
    strengths = [one["strength"] for one in kept]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] == max(one.assignment.strength for one in stream)
    assert strengths[-1] > np.quantile([one.assignment.strength for one in stream], 0.97)
    times = sorted(one["t_capture"] for one in kept)
    assert all(later - earlier >= APART_S for earlier, later in pairwise(times))
    crops = account.prototype_crops(0)
    assert crops[0][0] is CROP
    assert [float(landmarks[0, 0]) for _, landmarks in crops] == pytest.approx([one["t_capture"] for one in kept])


def test_of_equally_strong_frames_the_least_of_an_outlier_is_shown() -> None:
    stream = [embedding(number / 100, 0, strength=1.0, outlier=abs(number - 40) / 100) for number in range(90)]
    assert entry(account_of(stream).table(), 0)["prototypes"][0]["t_capture"] == 0.4
    assert entry(account_of([embedding(0.0, 0, outlier=NAN)]).table(), 0)["prototypes"]


def test_a_large_vocabulary_stays_bounded(rng: np.random.Generator) -> None:
    account = ClusterAccount()
    for number in range(3000):
        account.see(embedding(number * 1.1, number % 1000))
        account.see(embedding(number * 1.1, int(rng.integers(1000)), face_id=1))
    pictures = [len(account.prototype_crops(cluster)) for cluster in range(1000)]
    assert sum(pictures) <= 600
    assert pictures[999] > 0  # seen last
    for number in range(400):
        account.see(embedding(4000 + number / 30, int(rng.integers(1000))))
    table = account.table()
    assert len(table["transitions"]["clusters"]) == SHOWN
    assert (len(table["clusters"]), table["left_out"]) == (MOST, 1000 - MOST)
    least = min(one["frames"] for one in table["clusters"])
    everything = account.table(most=10_000)["clusters"]
    assert sum(one["frames"] > least for one in everything) < MOST
    assert sum(one["frames"] for one in everything) == table["frames"]
