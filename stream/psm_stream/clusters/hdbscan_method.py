"""HDBSCAN (Campello, Moulavi, Sander 2013) over principal components, fitted by the hdbscan package.

Assigning does what `hdbscan.approximate_predict` and `approximate_predict_scores` do for one point (McInnes, Healy
2017), on arrays: the point's nearest neighbour by mutual reachability says where in the condensed tree it would hang,
and how far up. The outlier score is GLOSH (Campello et al. 2015). Three things differ from the package, where that
gives no usable number:

- Points at the same place, as of a picture that stands still, have lambda infinity, by which the package sets every
  strength of their cluster to 0 and every outlier score to NaN. Here the greatest finite lambda is the measure.
- Outlier scores below 0, of points in a denser place than any that was fitted, are 0.
- Too few points to be dense anywhere are all noise, where the package raises ValueError.

Of neighbours that are equally near, the one that was fitted first counts; the package takes any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.fit import NOISE, NOWHERE, Assigner, Fit, Fitted, checked
from psm_stream.clusters.reduce import principal, projecting
from psm_stream.config import ClustersSettings

_MOST = float(np.finfo(np.float64).max)
"""The lambda of distance 0."""


class HdbscanMethod:
    """Clusters are places denser than what is around them; how dense differs from one to the other."""

    name = "hdbscan"

    def takes(self, fitted: Fitted) -> Literal["vector", "units"]:
        """Say what is assigned."""
        del fitted
        return "vector"

    def fit(self, vectors: NDArray[np.float32], settings: ClustersSettings) -> Fit:
        """Fit vectors [n, D]. Fewer than clusters.min_cluster_size, or no more than clusters.min_samples, are noise.

        All in one cluster are noise, too: nothing tells it from none (`allow_single_cluster` is off).
        """
        mean, components = principal(checked(vectors), settings.dimensions)
        project = projecting(mean, components)
        points = np.array([project(vector) for vector in vectors])
        tree = _fit_tree(points, settings)
        fitted = {"mean": mean, "components": components, "points": points, **tree}
        fitted["min_samples"] = np.array(settings.min_samples, np.int64)
        labels = tree["label"][tree["node"]]
        measure = np.where(labels == NOISE, 1.0, tree["peak"][tree["node"]])
        strengths = np.where(labels == NOISE, 0.0, np.minimum(tree["leaves"], measure) / measure)
        return Fit(labels, strengths.astype(np.float32), fitted)

    def assigner(self, fitted: Fitted) -> Assigner:
        """Make ready to assign. Raises ValueError: of a node that is not under an earlier one, no way leads up."""
        if np.any(fitted["above"][1:] < 0) or np.any(fitted["above"][1:] >= np.arange(1, len(fitted["above"]))):
            raise ValueError("its tree is none")
        if not np.any(fitted["label"] != NOISE):
            return lambda _: NOWHERE
        nearest = _nearest(fitted)
        node_of, leaves = fitted["node"].tolist(), fitted["leaves"].tolist()
        above, born, label_of = (fitted[name].tolist() for name in ("above", "born", "label"))
        peak, deepest = fitted["peak"].tolist(), fitted["deepest"].tolist()

        def assign(vector: NDArray[np.float32]) -> tuple[int, float, float]:
            neighbour, reach, is_there = nearest(vector)
            if neighbour < 0:
                return NOWHERE
            density = 1.0 / reach if reach > 0 else _MOST
            node = node_of[neighbour]
            most = deepest[node]
            outlier = max(0.0, (most - (leaves[neighbour] if is_there else density)) / most)
            if leaves[neighbour] > density:  # it leaves before its neighbour: where they were still together
                while node and born[node] >= density:
                    node = above[node]
            label = label_of[node]
            if label == NOISE:
                return NOISE, 0.0, outlier
            return label, min(peak[node], density) / peak[node], outlier

        return assign

    def tokens(self, fitted: Fitted) -> Callable[[int], str] | None:
        """Labels have no tokens."""
        del fitted
        return None


def _nearest(fitted: Fitted) -> Callable[[NDArray[np.float32]], tuple[int, float, bool]]:
    """Return what finds the neighbour that a vector hangs on.

    It gives the neighbour by mutual reachability among the 2 * min_samples nearest, -1 for a vector that is not
    finite; that reachability; whether a fitted point lies exactly where the vector does.
    """
    project = projecting(fitted["mean"], fitted["components"])
    axes = np.ascontiguousarray(fitted["points"].T)
    core = fitted["core"]
    last = len(core) - 1
    samples = min(int(fitted["min_samples"]), last)
    count = min(2 * samples, last + 1)
    off, squares = np.empty_like(axes), np.empty(last + 1)  # new ones for each call would be new pages for each call

    def nearest(vector: NDArray[np.float32]) -> tuple[int, float, bool]:
        np.subtract(axes, project(vector)[:, None], out=off)
        np.multiply(off, off, out=off)
        np.add.reduce(off, axis=0, out=squares)  # axis after axis, as the package's tree does
        limit = np.partition(squares, count - 1)[count - 1]
        near = np.flatnonzero(squares <= limit)
        if len(near) < count:  # NaN is never less
            return -1, np.inf, False
        near = near[np.argsort(squares[near], kind="stable")[:count]]
        distances = np.sqrt(squares[near])
        reach = np.maximum(np.maximum(core[near], distances), distances[samples])
        best = int(reach.argmin())
        return int(near[best]), float(reach[best]), bool(distances[0] == 0.0)

    return nearest


def _fit_tree(points: NDArray[np.float64], settings: ClustersSettings) -> dict[str, NDArray[Any]]:
    """Fit points [n, K]; return the condensed tree as arrays, its root first, and each point's place in it.

    node: [n] int32, the node that a point leaves last. leaves: [n], at which lambda. core: [n], its core distance.
    above: [C] int32, the node over a node. born: [C], the lambda at which it came off. label: [C] int32, the cluster
    that it is in. peak: [C], that cluster's greatest lambda. deepest: [C], the greatest lambda in or under the node.
    """
    from hdbscan import HDBSCAN

    count = len(points)
    if count < settings.min_cluster_size or count <= settings.min_samples:
        return _no_tree(count)
    clusterer = HDBSCAN(
        min_cluster_size=settings.min_cluster_size,
        min_samples=settings.min_samples,
        approx_min_span_tree=False,  # the exact one; 0.3 s more at 10,000 points
        core_dist_n_jobs=1,
        prediction_data=True,
    ).fit(points)
    rows = clusterer.condensed_tree_.to_numpy()
    selected = clusterer.prediction_data_.cluster_map
    size = int(rows["parent"].max()) - count + 1
    parent, child, at = rows["parent"] - count, rows["child"], rows["lambda_val"]
    is_node = rows["child_size"] > 1
    is_point = ~is_node
    tree = _no_tree(count, size)
    tree["node"][child[is_point]] = parent[is_point]
    tree["leaves"][child[is_point]] = at[is_point]
    tree["core"][:] = clusterer.prediction_data_.core_distances
    tree["above"][child[is_node] - count] = parent[is_node]
    tree["born"][child[is_node] - count] = at[is_node]
    own = np.zeros(size)
    np.maximum.at(own, parent, np.where(np.isfinite(at), at, 0.0))
    own[own == 0] = _MOST
    _describe(tree, own, {node - count: label for node, label in selected.items()})
    return tree


def _describe(tree: dict[str, NDArray[Any]], own: NDArray[np.float64], selected: dict[int, int]) -> None:
    """Fill in label, peak and deepest, of each node's own greatest lambda [C] and the clusters that were selected.

    A node comes after the one over it. A cluster that came off at distance 0 is not told from its twin, and is none.
    """
    heads: dict[int, int] = {}
    for node in sorted(selected):
        heads.setdefault(selected[node], node)
    real = [label for label in sorted(heads) if np.isfinite(tree["born"][heads[label]])]
    number = {label: place for place, label in enumerate(real)}
    for node, label in selected.items():
        tree["label"][node] = number.get(label, NOISE)
        tree["peak"][node] = own[heads[label]]
    tree["deepest"][:] = own
    for node in range(len(own) - 1, 0, -1):
        over = tree["above"][node]
        tree["deepest"][over] = max(tree["deepest"][over], tree["deepest"][node])


def _no_tree(points: int, nodes: int = 1) -> dict[str, NDArray[Any]]:
    """Return a tree's arrays before anything is known: one in which every point is noise."""
    return {
        "node": np.zeros(points, np.int32),
        "leaves": np.zeros(points),
        "core": np.zeros(points),
        "above": np.zeros(nodes, np.int32),
        "born": np.zeros(nodes),
        "label": np.full(nodes, NOISE, np.int32),
        "peak": np.ones(nodes),
        "deepest": np.ones(nodes),
    }
