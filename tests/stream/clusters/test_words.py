"""What people read of clusters in the terminal."""

import pytest

from psm_stream.clusters.words import intention, news, standing
from psm_stream.config import ClustersSettings

STATUS = {
    "method": "hdbscan",
    "version": 3,
    "clusters": [0, 4],
    "points": 200,
    "noise": 50,
    "faces": 220,
    "first_faces": 300,
    "fitting": False,
    "next_s": 12.4,
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "2 (0, 4), 25% of faces in none, version 3, again in 12 s at the earliest"),
        ({"fitting": True}, "2 (0, 4), 25% of faces in none, version 3, being fitted"),
        ({"points": 0, "noise": 0, "next_s": None}, "2 (0, 4), version 3"),  # nobody has counted
        ({"clusters": [], "next_s": None}, "none, 25% of faces in none, version 3"),
        ({"clusters": list(range(41)), "points": 0, "next_s": None}, "41 clusters, version 3"),
        ({"version": 0, "fitting": True}, "220 of 300 faces for the first, being fitted"),
        ({"method": "off"}, "off"),
    ],
)
def test_where_clusters_stand(changes: dict, says: str) -> None:
    assert standing(STATUS | changes) == says


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("born", "cluster 4 is new (30 faces)"),
        ("merged", "clusters 1, 2 went into cluster 4"),
        ("split", "clusters 1, 2 came out of cluster 4"),
        ("retired", "cluster 4 is gone"),
    ],
)
def test_what_happened_to_a_cluster(subject: str, says: str) -> None:
    assert news(f"cluster.{subject}", {"cluster": 4, "others": [1, 2], "points": 30}) == says


def test_a_fit_is_told_with_its_clusters_and_who_asked() -> None:
    fields = {"cluster_version": 2, "clusters": [0, 3], "points": 500, "reason": "order"}
    assert news("cluster.fitted", fields) == "clusters 2: 2 (0, 3) in 500 faces, asked for"
    assert news("cluster.fitted", fields | {"reason": "rule"}) == "clusters 2: 2 (0, 3) in 500 faces"


def test_a_start_says_what_is_kept() -> None:
    plain = "clusters by hdbscan as soon as 300 faces are there, then every 30 s"
    assert intention(ClustersSettings(), "", 0) == plain
    assert intention(ClustersSettings(), "ada", 0) == f"{plain}; they are kept for ada, with some faces of each"
    assert intention(ClustersSettings(keep=False), "ada", 0) == plain
    assert "beginning with 5 of earlier sessions" in intention(ClustersSettings(), "ada", 5)
    assert intention(ClustersSettings(method="off"), "ada", 5) == "clusters off: as asked"
