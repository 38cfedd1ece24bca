"""Sessions made up for tests: faces that wander from cluster to cluster by a seed."""

from dataclasses import replace

import numpy as np

from psm_stream.clusters.vocabulary_method import token_of
from psm_stream.record.testing import a_face
from psm_stream.report.collecting import Collector
from psm_stream.report.story import Story
from psm_stream.values import UNASSIGNED, Assignment, Embedding, Faces, Marker, NoFace, Stamp

FPS = 25.0
MODELS = ("a" * 12, "b" * 12)
FIRST_FIT = 20
"""Frames before there are clusters."""


class Recoder:
    """Stands for an encoder of the session."""

    def encode(self, crop):
        return np.full(16, crop.mean(), np.float32)


def frames(clusters, count=200, faces=1, seed=0):
    """What each face is in at each frame, [count][faces]: a cluster, -1, or None where there is no face at all."""
    draw = np.random.default_rng(seed)
    now, path = [0] * faces, []
    for index in range(count):
        now = [int(draw.integers(-1, clusters)) if draw.random() < 0.15 else one for one in now]
        path.append(None if index % 90 > 84 else [one if clusters else -1 for one in now])
    return path


def collected(path, *, names=None, markers=(), swap_at=None, label="", t_first=50.0, tokens=False) -> Collector:
    """A collector that has seen the path. names: of clusters, by id. markers: (frame, label).

    tokens: as of a vocabulary.
    """
    collector, names = Collector(), names or {}
    pictures = [a_face(Stamp(n, 0.0), size_px=32) for n in range(8)]
    for index, where in enumerate(path):
        stamp = Stamp(index, t_first + index / FPS, label=label, dropped={"slot": 1} if index % 50 == 7 else {})
        shown = [replace(pictures[index % 8], frame=stamp, face_id=n) for n in range(len(where or ()))]
        collector.take(Faces(stamp, tuple(shown)) if shown else NoFace(stamp, "a test"))
        for face, cluster in zip(shown, where or (), strict=True):
            epoch = int(swap_at is not None and index >= swap_at)
            vector = np.random.default_rng([cluster + 1, index]).normal(cluster, 0.3, 16).astype(np.float32)
            token = token_of(cluster) if tokens else ""
            assigned = Assignment(cluster, 0.9 * (cluster >= 0), 0.1, 1, names.get(cluster, ""), token)
            at = replace(stamp, t_capture=index / FPS, t_source=index / FPS)
            seen = UNASSIGNED if index < FIRST_FIT else assigned
            collector.see(Embedding(replace(face, frame=at), vector, MODELS[epoch], epoch, seen))
        for _, words in (one for one in markers if one[0] == index):
            collector.take(Marker(words, stamp.t_capture + 0.5 / FPS, "remote"))
    return collector


def a_story(session, path, **about) -> Story:
    """The story of a path, told as if it were of a recorded session."""
    return collected(path, **about).story(session, lambda _: Recoder(), lambda _: None)
