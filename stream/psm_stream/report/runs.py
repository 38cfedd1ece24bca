"""Runs: which cluster each face is in, from when to when."""

from __future__ import annotations

from dataclasses import dataclass

from psm_stream.clusters.bouts import GAP_S
from psm_stream.report.story import Run


@dataclass(slots=True)
class _Open:
    cluster: int
    is_move: bool
    begin: float
    last: float
    step: float = 0.0


class Runs:
    """Joins frames to runs, face by face, as `Bouts` does: the time between two frames belongs to the first of them.

    A face that was away for longer than GAP_S begins anew.
    """

    def __init__(self) -> None:
        self._done: dict[int, list[Run]] = {}
        self._open: dict[int, _Open] = {}
        self._version: dict[int, int] = {}

    def see(self, face_id: int, cluster: int, version: int, t: float) -> None:
        """Take a frame of a face: its cluster, by which clustering, and when. Those of one face come in order."""
        now, is_move = self._open.get(face_id), False
        if now is not None and t - now.last <= GAP_S:
            if now.cluster == cluster:
                now.step, now.last = t - now.last, t
                self._version[face_id] = version
                return
            is_move = self._version[face_id] == version
            self._close(face_id, t)
        elif now is not None:
            self._lose(face_id, now)
        self._open[face_id] = _Open(cluster, is_move, t, t)
        self._version[face_id] = version

    def by_face(self) -> dict[int, list[Run]]:
        """End all runs and return them by face, the face that was there the longest first."""
        for face_id, now in list(self._open.items()):
            self._lose(face_id, now)
        return dict(sorted(self._done.items(), key=lambda face: -sum(run.end - run.begin for run in face[1])))

    def _lose(self, face_id: int, now: _Open) -> None:
        """End a run after its last frame, which lasts as long as the one before."""
        self._close(face_id, now.last + now.step)

    def _close(self, face_id: int, t: float) -> None:
        ended = self._open.pop(face_id)
        self._done.setdefault(face_id, []).append(Run(ended.cluster, ended.begin, t, ended.is_move))
