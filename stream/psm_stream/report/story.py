"""What a report tells of a session: values, found by `collecting` and drawn by the figures.

Times are seconds of the report's clock (`SessionClock`): from the first frame on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_stream.clusters.account import ClusterAccount

NOISE = -1
UNSORTED = -2
"""Stands for the cluster of a face that was seen while there were none: at first, and for some time after a swap."""


@dataclass(frozen=True, slots=True)
class Run:
    """A face is in one cluster, or one state, from begin to end without a break.

    is_move: it came there from the run before, by itself: it was not away, and no new clustering says so.
    """

    cluster: int
    begin: float
    end: float
    is_move: bool


@dataclass(frozen=True, slots=True)
class Said:
    """What the source itself says of a run of frames, such as the demo's true expression. most: its largest value."""

    label: str
    begin: float
    end: float
    most: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. kind: "marker", "swap", "fit" or the subject of a notice. text: for people."""

    t: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Plane:
    """Faces in two dimensions. xy: [n, 2]. clusters: [n]. explained: share of the variance of each axis, 0..1.

    model_id: the encoder of all of them. of: how many faces the n stand for.
    """

    xy: NDArray[np.float64]
    clusters: NDArray[np.int32]
    explained: tuple[float, float]
    model_id: str
    of: int


@dataclass(frozen=True, slots=True)
class Series:
    """Everything that is drawn over time. t: s [frames]. dropped: lost just before each of them [frames].

    is_seen: whether there was a face [frames]. latency_t, latency_ms: of each embedding, from capture to publishing.
    """

    t: NDArray[np.float64]
    dropped: NDArray[np.int64]
    is_seen: NDArray[np.bool_]
    latency_t: NDArray[np.float64]
    latency_ms: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quality:
    """How well the session was recorded.

    series: over time. dropped: frames lost, by cause. lost: how often a face went away. longest_without_s: the longest
    time without any face. stages_ms: the run's last account of latencies, by stage. is_fast: a source without a pace of
    its own was read as fast as it went, so that latencies are times in queues. remarks: what else went wrong.
    """

    series: Series
    dropped: Mapping[str, int]
    lost: int
    longest_without_s: float
    stages_ms: Mapping[str, Mapping[str, float]]
    is_fast: bool
    remarks: Sequence[str]


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that is on the page.

    about: facts in the order in which they are listed. has_own_time: times are the source's own.
    faces: runs of each face id, the one that was there the longest first. said: what the source says, in order.
    models: (model_id, begin) of each encoder in use, in order.
    fits: (version, begin) of each clustering in force; version 0 where there is none again, as after a swap.
    account, table: what each cluster is. labels: what clusters are called, by id.
    tokens: of a vocabulary, by id; empty where clusters were found and not given.
    said_in: what the source says most often of a cluster's frames, and of how many.
    """

    title: str
    about: Mapping[str, str]
    has_own_time: bool
    span: tuple[float, float]
    faces: Mapping[int, Sequence[Run]]
    said: Sequence[Said]
    models: Sequence[tuple[str, float]]
    fits: Sequence[tuple[int, float]]
    events: Sequence[Event]
    account: ClusterAccount
    table: Mapping[str, Any]
    labels: Mapping[int, str]
    tokens: Mapping[int, str]
    said_in: Mapping[int, tuple[str, int]]
    plane: Plane | None
    quality: Quality
