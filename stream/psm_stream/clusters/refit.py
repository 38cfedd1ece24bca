"""One fit, from rows to an order for the pipeline: encode what is stale, fit in the process, match ids. Slow: aside."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.clustering import Clustering
from psm_stream.clusters.identity import Matching, match
from psm_stream.clusters.process import ClusterProcess
from psm_stream.clusters.reservoir import Row
from psm_stream.config import ClustersSettings
from psm_stream.encoder import Encoder
from psm_stream.errors import ClusteringError
from psm_stream.values import Recluster

PAUSE_S = 0.005
"""After each face that is encoded again, about what that took, so that a core is left half free. A lower priority would
do worse: a thread that is put aside while it holds the interpreter's lock holds up the stream."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be fitted. encoder: whose clusters. firm: ids of the clustering before, and how firm each is. next_id:
    the first free one.

    version: of the clustering to come. reason: who asked. pause_s: after each face that is encoded again.
    """

    rows: Sequence[Row]
    encoder: Encoder
    settings: ClustersSettings
    firm: Mapping[int, int]
    next_id: int
    version: int
    reason: str
    pause_s: float = PAUSE_S


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit came to.

    keys: the rows. matching: their ids now. vectors: [n, D], of the task's encoder; None where all were before. noise:
    how many rows are in none.
    """

    order: Recluster
    keys: tuple[int, ...]
    matching: Matching
    vectors: NDArray[np.float32] | None
    noise: int


def fit(task: Task, process: ClusterProcess, is_wanted: Callable[[], bool] = lambda: True) -> Fitted:
    """Do a task. Raises ClusteringError: it cannot be fitted, or the process died, or it is not wanted any more."""
    vectors = encode(task, is_wanted)
    known = np.array([row.known for row in task.rows], np.int32)
    made = process.fit(task.settings.method, vectors, task.settings)
    before = np.array([row.before for row in task.rows], np.int32)
    matching = match(known, made.labels, frozenset(task.firm), task.next_id, before=before, firm=task.firm)
    clustering = Clustering(
        method=task.settings.method,
        model_id=task.encoder.model_id,
        version=task.version,
        ids=matching.ids,
        changes=matching.changes,
        fitted=made.fitted,
        points=len(vectors),
    )
    keys = tuple(row.key for row in task.rows)
    is_stale = any(row.model_id != task.encoder.model_id for row in task.rows)
    order, noise = Recluster(clustering, task.reason), int(np.sum(made.labels < 0))
    return Fitted(order, keys, matching, vectors if is_stale else None, noise)


def encode(task: Task, is_wanted: Callable[[], bool]) -> NDArray[np.float32]:
    """Return each row's vector [n, D] by the task's encoder: the stream's own, or the same bytes once more."""
    vectors = np.empty((len(task.rows), task.encoder.dimension), np.float32)
    for place, row in enumerate(task.rows):
        if row.model_id == task.encoder.model_id and row.vector.shape == (task.encoder.dimension,):
            vectors[place] = row.vector
            continue
        if not is_wanted():
            raise ClusteringError("the fit is not wanted any more")
        vectors[place] = task.encoder.encode(row.crop)
        time.sleep(task.pause_s)
    return vectors
