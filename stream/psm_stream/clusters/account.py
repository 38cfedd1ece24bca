"""The account of clusters: what the face does in each, how long, after which other, and pictures of it.

It is kept from the results of the pipeline, in order, so that a live run, the player and a report say the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_stream.align.template import to_crop_px
from psm_stream.clusters.bouts import NOISE, Bouts
from psm_stream.clusters.reservoir import time_of
from psm_stream.clusters.units import UNIT_NAMES, measure, source_of
from psm_stream.values import NAN, AlignedFace, Embedding, Image, NameCluster

PROTOTYPES = 6
"""Prototype frames of a cluster."""
APART_S = 1.0
"""Prototypes lie so far apart in time, so that they show more than one moment."""
MOST = 60
"""Clusters in the table, unless one asks for more: it is published, and a large vocabulary has thousands."""
_MOST_PICTURES = 600
"""Prototypes of all clusters together: about 30 MB. Beyond, the cluster that is unseen the longest loses its own."""


@dataclass(frozen=True, slots=True)
class Prototype:
    """A frame that shows what a cluster is. It holds the face by reference."""

    face: AlignedFace
    strength: float
    outlier: float

    def rank(self) -> tuple[float, float]:
        """How well it shows it: by strength, then the less of an outlier; the greater, the better."""
        return (self.strength, 0.0 if math.isnan(self.outlier) else -self.outlier)


class ClusterAccount:
    """Counts each embedding once. One thread; memory is bounded for any number of frames."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._everybody = _Seen()
        self._unassigned = 0
        self._bouts = Bouts()
        self._names: dict[int, str] = {}
        self._pictures: dict[int, list[Prototype]] = {}  # the cluster that was seen last comes last
        self._version, self._model_id = 0, ""
        self._t = self._now = NAN
        """When the newest frame was captured, and its own time."""
        self._units_from = ""

    def see(self, embedding: Embedding) -> None:
        """Count one embedding. Those of one face must come in order."""
        face, assigned = embedding.face, embedding.assignment
        self._version, self._model_id = assigned.version, embedding.model_id
        self._t, self._now = face.frame.t_capture, time_of(face.frame)
        self._units_from = source_of(face)
        units = measure(face)
        self._everybody.add(units, 0.0, self._now)
        if assigned.version == 0:
            self._unassigned += 1
            self._bouts.lose(face.face_id)
            return
        self._seen.setdefault(assigned.cluster, _Seen()).add(units, assigned.strength, self._now)
        self._bouts.see(face.face_id, assigned.cluster, assigned.version, self._now)
        if assigned.cluster != NOISE:
            self._names[assigned.cluster] = assigned.name
            self._keep(assigned.cluster, Prototype(face, assigned.strength, assigned.outlier))

    def named(self, order: NameCluster) -> None:
        """A cluster is called so from now on; its table shows it before the next frame."""
        self._names[order.cluster] = order.name

    def prototype_crops(self, cluster: int) -> tuple[tuple[Image, NDArray[np.float32]], ...]:
        """Return the crop [S, S, 3] and the landmarks [478, 2], px of the crop, of each prototype, the best first."""
        faces = [prototype.face for prototype in self._best(cluster)]
        return tuple((face.crop, to_crop_px(face.landmarks, face.to_crop)) for face in faces)

    def table(self, most: int = MOST) -> dict[str, Any]:
        """Return everything as plain values for JSON; None is what nobody knows. docs/clusters.md says what is what.

        most: so many clusters, those with the most frames; `left_out` says how many there are besides.
        """
        assigned = self._everybody.frames - self._unassigned
        noise = self._seen.get(NOISE, _NOTHING).frames
        known = {*self._seen, *(one for one, name in self._names.items() if name)} - {NOISE}
        shown = sorted(known, key=lambda one: (-self._seen.get(one, _NOTHING).frames, one))[:most]
        return {
            "version": self._version,
            "model_id": self._model_id,
            "t": _plain(self._t, 6),
            "frames": self._everybody.frames,
            "unassigned": self._unassigned,
            "units_from": self._units_from,
            "noise": {"frames": noise, "share": _plain(noise / max(assigned, 1))},
            "clusters": [self._entry(cluster, assigned) for cluster in sorted(shown)],
            "left_out": len(known) - len(shown),
            "transitions": self._bouts.transitions(),
        }

    def _entry(self, cluster: int, assigned: int) -> dict[str, Any]:
        seen = self._seen.get(cluster, _NOTHING)
        return {
            "cluster": cluster,
            "name": self._names.get(cluster, ""),
            "frames": seen.frames,
            "share": _plain(seen.frames / max(assigned, 1)),
            **self._bouts.of(cluster),
            "last_seen_s": _plain(self._now - seen.t_last),
            "strength": _plain(seen.strength / seen.frames if seen.frames else NAN),
            "units": seen.profile(self._everybody),
            "prototypes": [_about(prototype) for prototype in self._best(cluster)],
        }

    def _best(self, cluster: int) -> list[Prototype]:
        return sorted(self._pictures.get(cluster, ()), key=Prototype.rank, reverse=True)

    def _keep(self, cluster: int, new: Prototype) -> None:
        """Keep the best prototypes, none within APART_S of another."""
        kept = self._pictures.pop(cluster, [])
        self._pictures[cluster] = kept
        rivals = [one for one in kept if abs(time_of(one.face.frame) - time_of(new.face.frame)) < APART_S]
        if not rivals and len(kept) >= PROTOTYPES:
            rivals = [min(kept, key=Prototype.rank)]
        if any(one.rank() >= new.rank() for one in rivals):
            return
        for one in rivals:
            kept.remove(one)
        kept.append(new)
        if not rivals and sum(map(len, self._pictures.values())) > _MOST_PICTURES:
            self._pictures.pop(next(iter(self._pictures)))


class _Seen:
    """Frames of one cluster: how many, and their units' means and sums of squares (Welford 1962)."""

    def __init__(self) -> None:
        self.frames = 0
        self.strength = 0.0
        self.t_last = NAN
        self._counts, self._means, self._squares = np.zeros((3, len(UNIT_NAMES)))

    def add(self, units: NDArray[np.float32], strength: float, t: float) -> None:
        """Count a frame. units: [U], NaN where nobody knows."""
        self.frames += 1
        self.strength += strength
        self.t_last = t
        known = np.isfinite(units)
        off = np.where(known, units - self._means, 0.0)
        self._counts += known
        self._means += off / np.maximum(self._counts, 1.0)
        self._squares += off * np.where(known, units - self._means, 0.0)

    def profile(self, everybody: _Seen) -> dict[str, dict[str, float | None]]:
        """Mean and deviation of each unit, and how far the mean is from everybody's, in everybody's deviations."""
        mean, sd = self._mean_sd()
        all_mean, all_sd = everybody._mean_sd()
        z = np.divide(mean - all_mean, all_sd, out=np.full_like(mean, NAN), where=all_sd > 0)
        rows = zip(UNIT_NAMES, mean, sd, z, strict=True)
        return {name: {"mean": _plain(m), "sd": _plain(s), "z": _plain(how)} for name, m, s, how in rows}

    def _mean_sd(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        counts = np.where(self._counts > 0, self._counts, NAN)
        return np.where(self._counts > 0, self._means, NAN), np.sqrt(self._squares / counts)


_NOTHING = _Seen()


def _about(prototype: Prototype) -> dict[str, Any]:
    face = prototype.face
    where = {"frame_index": face.frame.index, "face_id": face.face_id, "t_capture": _plain(face.frame.t_capture, 6)}
    return {**where, "strength": _plain(prototype.strength)}


def _plain(value: float, digits: int = 4) -> float | None:
    """Return a number that JSON can hold, rounded."""
    return round(float(value), digits) if math.isfinite(value) else None
