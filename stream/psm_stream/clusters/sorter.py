"""The sorter: the pipeline's part that says which cluster a vector is in, deterministically, and fast for each frame.

It keeps the newest clustering of each encoder, so that a swap finds one that was prepared, and the general encoder's
is there again after REVERT. Whatever is ordered is taken at the next frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.clustering import ANY_MODEL, Change, Clustering
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.units import measure
from psm_stream.values import (
    UNASSIGNED,
    AlignedFace,
    Assignment,
    Input,
    NameCluster,
    Notice,
    Recluster,
    Stamp,
)

MOST = 8
"""Clusterings of so many encoders are kept, those last in force; a session may adapt a hundred times."""


class Sorter:
    """Assigns vectors by the clustering in force: the newest of the encoder that runs."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        """What the user calls clusters, by id."""
        self._newest: dict[str, Recluster] = {}
        self._waiting: list[Recluster | NameCluster] = []
        self._current: _InForce | None = None
        self._untold: dict[int, Clustering] = {}
        """By version: those whose changes were not told yet. One that was prepared may never come into force itself."""
        self._told: frozenset[int] | None = None
        """The ids that there are by what was told; None: nothing was."""

    @property
    def is_on(self) -> bool:
        """Whether there is a clustering in force."""
        return self._current is not None

    @property
    def clustering(self) -> Clustering | None:
        """The clustering in force."""
        return None if self._current is None else self._current.clustering

    @property
    def ids(self) -> frozenset[int]:
        """The clusters in force."""
        return frozenset() if self._current is None else frozenset(map(int, self._current.clustering.ids))

    @property
    def names_ordered(self) -> dict[int, str]:
        """What clusters are called from the next frame on."""
        named = {item.cluster: item.name for item in self._waiting if isinstance(item, NameCluster)}
        return {cluster: name for cluster, name in (self.names | named).items() if name}

    def token(self, token: str) -> dict[str, str]:
        """Return a token as a field of a notice, if there are tokens."""
        return {"token": token} if self._current is not None and self._current.has_tokens else {}

    def order(self, item: Recluster | NameCluster) -> None:
        """Take an order, for the next frame."""
        self._waiting.append(item)

    def standing(self) -> list[Input]:
        """Return the orders that bring a new sorter to where this one is. What was told is not told again."""
        newest = [
            item
            if item.clustering.version in self._untold
            else replace(item, clustering=replace(item.clustering, changes=()))
            for item in self._newest.values()
        ]
        names = [NameCluster(cluster, name) for cluster, name in sorted(self.names.items())]
        return [*newest, *names, *self._waiting]

    def take(self, model_id: str, frame: Stamp) -> Iterator[Notice]:
        """Take what was ordered, and what belongs to the encoder that runs now. Yields what has changed."""
        for item in self._waiting:
            if isinstance(item, Recluster):
                self._newest[item.clustering.model_id] = item
                self._untold[item.clustering.version] = item.clustering
            elif item.name:
                self.names[item.cluster] = item.name
            else:
                self.names.pop(item.cluster, None)
        self._waiting.clear()
        newest = self._newest.get(model_id, self._newest.get(ANY_MODEL))
        now = None if newest is None else newest.clustering
        if now is self.clustering:
            return
        self._current = None if now is None else _InForce(now)
        self._keep_few(newest)
        if newest is not None:
            yield from self._news(newest, frame)

    def _keep_few(self, in_force: Recluster | None) -> None:
        if in_force is not None:
            model_id = in_force.clustering.model_id
            self._newest[model_id] = self._newest.pop(model_id)  # to the end, as the last in force
        for model_id in list(self._newest)[:-MOST]:
            del self._newest[model_id]

    def assign(self, face: AlignedFace, vector: NDArray[np.float32]) -> Assignment:
        """Say where a face's vector [D] falls."""
        if self._current is None:
            return UNASSIGNED
        return self._current.assign(face, vector, self.names)

    def _news(self, order: Recluster, frame: Stamp) -> Iterator[Notice]:
        """A clustering has come into force. Each change is told once, also of those before that never came into force;
        and what another one leads to than the last that was told, as after REVERT."""
        clustering = order.clustering
        for version in sorted(self._untold):
            if version <= clustering.version:
                yield from self._changed(self._untold.pop(version), frame)
        ids = self.ids
        if self._told is not None:
            back = [Change("returned", one) for one in sorted(ids - self._told)]
            gone = [Change("retired", one) for one in sorted(self._told - ids)]
            yield from (_notice(change, clustering, frame) for change in (*back, *gone))
        self._told = ids
        about = {"clusters": sorted(ids), "points": clustering.points, "reason": order.reason}
        yield Notice("cluster.fitted", frame.t_capture, {**_where(clustering, frame), **about})

    def _changed(self, clustering: Clustering, frame: Stamp) -> Iterator[Notice]:
        """Tell what a clustering changed, but for what was so already."""
        told = self._told
        for change in clustering.changes:
            is_so = told is not None and change.kind != "moved" and change.begun <= told and not change.ended & told
            if not is_so:
                yield _notice(change, clustering, frame)
            if told is not None:
                told = (told - change.ended) | change.begun
        self._told = told


def _notice(change: Change, clustering: Clustering, frame: Stamp) -> Notice:
    about = {"cluster": change.cluster, "others": list(change.others), "points": change.points}
    return Notice(f"cluster.{change.kind}", frame.t_capture, {**_where(clustering, frame), **about})


def _where(clustering: Clustering, frame: Stamp) -> dict[str, object]:
    return {"frame_index": frame.index, "model_id": clustering.model_id, "cluster_version": clustering.version}


class _InForce:
    """A clustering, made ready to assign."""

    def __init__(self, clustering: Clustering) -> None:
        method = METHODS[clustering.method]
        self.clustering = clustering
        self._ids = clustering.ids.tolist()
        self._of_units = method.takes(clustering.fitted) == "units"
        self._assigner = method.assigner(clustering.fitted)
        self._tokens = method.tokens(clustering.fitted)
        self.has_tokens = self._tokens is not None

    def assign(self, face: AlignedFace, vector: NDArray[np.float32], names: dict[int, str]) -> Assignment:
        label, strength, outlier = self._assigner(measure(face) if self._of_units else vector)
        cluster = -1 if label < 0 else self._ids[label]
        token = "" if self._tokens is None else self._tokens(label)
        return Assignment(cluster, strength, outlier, self.clustering.version, names.get(cluster, ""), token)
