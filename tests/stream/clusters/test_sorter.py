"""The sorter: which clustering is in force, what it says of changes, and names."""

from dataclasses import replace

import numpy as np
import pytest

from psm_stream.clusters.clustering import ANY_MODEL, Change, Clustering
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.naming import parse_name
from psm_stream.clusters.sorter import MOST, Sorter
from psm_stream.config import ClustersSettings
from psm_stream.errors import ConfigError
from psm_stream.values import UNASSIGNED, AlignedFace, NameCluster, Recluster, Stamp

SETTINGS = ClustersSettings(method="dbscan", dimensions=0, eps=1.0, min_samples=3)
FRAME = Stamp(7, 1.5)
CROP = np.zeros((32, 32, 3), np.uint8)
FACE = AlignedFace(FRAME, 0, CROP, np.zeros((478, 2), np.float32), np.eye(2, 3, dtype=np.float32), 1.0)


def two_heaps(model_id: str = "aaa", version: int = 1, ids: tuple[int, int] = (0, 1), changes=()) -> Clustering:
    """Ten points at 0 and ten at 9."""
    points = np.repeat(np.array([[0.0, 0.0], [9.0, 9.0]], np.float32), 10, axis=0)
    fit = METHODS["dbscan"].fit(points, SETTINGS)
    assert fit.labels.tolist() == [0] * 10 + [1] * 10
    return Clustering("dbscan", model_id, version, np.array(ids, np.int32), changes, fit.fitted, 20)


def at(x: float) -> np.ndarray:
    return np.array([x, x], np.float32)


def take(sorter: Sorter, *orders, model_id: str = "aaa") -> list[tuple[str, dict]]:
    for order in orders:
        sorter.order(order)
    return [(notice.subject, dict(notice.fields)) for notice in sorter.take(model_id, FRAME)]


def test_nothing_is_assigned_before_there_are_clusters():
    sorter = Sorter()
    assert take(sorter) == []
    assert not sorter.is_on
    assert sorter.assign(FACE, at(0)) == UNASSIGNED


def test_labels_become_ids_and_noise_is_minus_one():
    sorter = Sorter()
    take(sorter, Recluster(two_heaps(ids=(4, 2)), "first"))
    assert [sorter.assign(FACE, at(x)).cluster for x in (0.1, 8.9, 4.5)] == [4, 2, -1]
    near, far = sorter.assign(FACE, at(0.0)), sorter.assign(FACE, at(4.5))
    assert near.strength > 0.9
    assert (near.version, near.name, near.token) == (1, "", "")
    assert far.strength == 0


def test_a_clustering_is_taken_at_the_next_frame_and_told_once():
    sorter = Sorter()
    changes = (Change("born", 0, (), 10), Change("split", 1, (0,), 10))
    sorter.order(Recluster(two_heaps(changes=changes), "first"))
    assert not sorter.is_on
    told = take(sorter)
    assert [subject for subject, _ in told] == ["cluster.born", "cluster.split", "cluster.fitted"]
    where = {"frame_index": 7, "model_id": "aaa", "cluster_version": 1}
    assert told[1][1] == {**where, "cluster": 1, "others": [0], "points": 10}
    assert told[2][1] == {**where, "clusters": [0, 1], "points": 20, "reason": "first"}
    assert take(sorter) == []


def test_each_encoder_has_its_own_clusters_and_finds_them_again():
    sorter = Sorter()
    changes = (Change("born", 0),)
    take(sorter, Recluster(two_heaps("aaa", 1, changes=changes), "first"))
    assert take(sorter, Recluster(two_heaps("bbb", 2), "swap")) == []  # prepared: it is not in force yet
    assert sorter.assign(FACE, at(0)).version == 1
    assert [subject for subject, _ in take(sorter, model_id="bbb")] == ["cluster.fitted"]
    assert sorter.assign(FACE, at(0)).version == 2
    back = take(sorter, model_id="aaa")
    assert [subject for subject, _ in back] == ["cluster.fitted"]  # what it changed was told before
    assert sorter.assign(FACE, at(0)).version == 1
    assert take(sorter, model_id="ccc") == []
    assert sorter.assign(FACE, at(0)) == UNASSIGNED


def test_what_was_prepared_and_never_came_into_force_is_told_with_the_next():
    sorter = Sorter()
    take(sorter, Recluster(two_heaps("aaa", 1, changes=(Change("born", 0), Change("born", 1))), "first"))
    prepared = two_heaps("bbb", 2, ids=(0, 2), changes=(Change("born", 2), Change("merged", 0, (1,))))
    assert take(sorter, Recluster(prepared, "swap")) == []
    told = take(sorter, Recluster(two_heaps("aaa", 3, ids=(0, 1), changes=(Change("returned", 1, (), 10),)), "rule"))
    assert [(subject, fields.get("cluster"), fields["cluster_version"]) for subject, fields in told] == [
        ("cluster.born", 2, 2),
        ("cluster.merged", 0, 2),
        ("cluster.returned", 1, 3),
        ("cluster.retired", 2, 3),
        ("cluster.fitted", None, 3),
    ]


def test_going_back_to_an_older_clustering_is_told_and_so_is_coming_from_it():
    sorter = Sorter()
    take(sorter, Recluster(two_heaps("aaa", 1, changes=(Change("born", 0), Change("born", 1))), "first"))
    changes = (Change("merged", 0, (1,)), Change("born", 2))
    take(sorter, Recluster(two_heaps("bbb", 2, ids=(0, 2), changes=changes), "swap"), model_id="bbb")
    back = [(subject, fields.get("cluster")) for subject, fields in take(sorter, model_id="aaa")]
    assert back == [("cluster.returned", 1), ("cluster.retired", 2), ("cluster.fitted", None)]
    # what the next one says is against version 2: that 1 returned was told
    changes = (Change("returned", 1), Change("moved", 2, (0,)))
    told = take(sorter, Recluster(two_heaps("aaa", 3, ids=(1, 2), changes=changes), "swap"))
    assert [(subject, fields.get("cluster")) for subject, fields in told] == [
        ("cluster.moved", 2),
        ("cluster.returned", 2),
        ("cluster.retired", 0),
        ("cluster.fitted", None),
    ]


def test_a_new_sorter_in_the_same_place_does_not_tell_again():
    sorter = Sorter()
    take(sorter, Recluster(two_heaps("aaa", 1, changes=(Change("born", 0), Change("born", 1))), "first"))
    take(sorter, Recluster(two_heaps("bbb", 2, ids=(0, 2), changes=(Change("split", 0, (2,)),)), "swap"))
    again = Sorter()
    assert [subject for subject, _ in take(again, *sorter.standing())] == ["cluster.fitted"]
    assert take(again, model_id="bbb") == take(sorter, model_id="bbb")
    assert again.assign(FACE, at(9)) == sorter.assign(FACE, at(9))


def test_clusters_of_units_are_of_every_encoder():
    sorter = Sorter()
    take(sorter, Recluster(two_heaps(ANY_MODEL), "vocabulary"))
    assert take(sorter, model_id="bbb") == []
    assert sorter.is_on


def test_names_hold_through_clusterings_and_can_be_taken_away():
    sorter = Sorter()
    take(sorter, Recluster(two_heaps(), "first"), NameCluster(0, "rest"))
    assert sorter.assign(FACE, at(0)).name == "rest"
    take(sorter, Recluster(two_heaps(version=2), "rule"))
    assert sorter.assign(FACE, at(0)).name == "rest"
    assert sorter.assign(FACE, at(9)).name == ""
    sorter.order(NameCluster(1, "waits"))
    sorter.order(NameCluster(0, ""))
    assert (sorter.names, sorter.names_ordered) == ({0: "rest"}, {1: "waits"})
    take(sorter)
    assert sorter.names == sorter.names_ordered
    assert sorter.assign(FACE, at(0)).name == ""


def test_standing_orders_bring_a_new_sorter_to_the_same_place():
    sorter = Sorter()
    take(sorter, Recluster(two_heaps("aaa", 3), "rule"), Recluster(two_heaps("bbb", 2), "swap"), NameCluster(1, "x"))
    sorter.order(NameCluster(0, "waits"))
    again = Sorter()
    take(again, *sorter.standing())
    take(sorter)
    for x in (0.0, 9.0, 4.0):
        assert again.assign(FACE, at(x)) == sorter.assign(FACE, at(x))
    take(sorter, model_id="bbb")
    take(again, model_id="bbb")
    assert again.assign(FACE, at(9)) == replace(sorter.assign(FACE, at(9)), version=2)


def test_a_name_is_read_and_wrong_ones_are_refused():
    sorter = Sorter()
    take(sorter, Recluster(two_heaps(ids=(3, 12)), "first"))
    assert parse_name("3 a broad smile", sorter) == NameCluster(3, "a broad smile")
    assert parse_name("12", sorter) == NameCluster(12, "")
    for text, why in (("x y", "not the number"), ("", "not the number"), ("4 no", "clusters so far: 3, 12")):
        with pytest.raises(ConfigError, match=why):
            parse_name(text, sorter)
    with pytest.raises(ConfigError, match="at most 64"):
        parse_name("3 " + "n" * 65, sorter)


def test_clusterings_of_the_encoders_that_ran_last_are_kept():
    sorter = Sorter()
    for version in range(1, 30):
        take(sorter, Recluster(two_heaps(f"model {version}", version), "swap"), model_id=f"model {version}")
        take(sorter, model_id="model 1")  # as REVERT does each time
    assert sorter.is_on
    assert sorter.clustering.version == 1
    assert len(sorter.standing()) == MOST
    take(sorter, model_id="model 29")
    assert sorter.is_on
    take(sorter, model_id="model 2")
    assert not sorter.is_on
