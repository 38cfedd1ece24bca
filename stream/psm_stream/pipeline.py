"""The pipeline: a deterministic function that folds over inputs and gives results.

Live and replay feed it the same inputs in the same order, so they give the same results. It starts no thread, reads no
clock of its own and draws no random number.
"""

from __future__ import annotations

from collections.abc import Iterator

from psm_stream.clusters.sorter import Sorter
from psm_stream.clusters.vocabulary import END, START
from psm_stream.encoder import Encoder
from psm_stream.stopwatch import Stopwatch
from psm_stream.values import (
    AlignedFace,
    Embedding,
    Faces,
    Input,
    Marker,
    NameCluster,
    NoFace,
    Notice,
    Present,
    Recluster,
    Result,
    Sighting,
    Stamp,
    SwapEncoder,
)


class Pipeline:
    """Turns inputs into results. State: the encoder, its epoch, a swap that waits, the clusters, and who is present."""

    def __init__(self, encoder: Encoder, stopwatch: Stopwatch | None = None, model_epoch: int = 0) -> None:
        self.encoder = encoder
        self.model_epoch = model_epoch
        self.model_ids = [encoder.model_id]
        """Every encoder used so far, in order of first use."""
        self.sorter = Sorter()
        self._stopwatch = stopwatch or Stopwatch(lambda: 0.0)
        self.waiting: SwapEncoder | None = None
        self._present: frozenset[int] = frozenset()

    def step(self, item: Input) -> list[Result]:
        """Take one input and return what follows from it, in order."""
        match item:
            case SwapEncoder():
                self.waiting = item  # taken at the next frame, so that no frame mixes models
            case Recluster() | NameCluster():
                self.sorter.order(item)  # taken at the next frame, too
            case Present():
                self._present = frozenset(item.face_ids)
            case Marker():
                return [item]
            case Faces() | NoFace():
                return self._see(item)
        return []

    def standing(self) -> list[Input]:
        """Return the inputs that bring a new pipeline with this encoder and epoch to where this one is.

        But for a swap that waits.
        """
        present = [Present(tuple(sorted(self._present)))] if self._present else []
        return [*self.sorter.standing(), *present]

    def _see(self, item: Sighting) -> list[Result]:
        frame = item.frame
        results: list[Result] = [*self._swap(frame), *self.sorter.take(self.encoder.model_id, frame)]
        results += [*_truth(frame), *self._presence(item)]
        return [*results, item] if isinstance(item, NoFace) else [*results, *map(self._embed, item.faces)]

    def _embed(self, face: AlignedFace) -> Embedding:
        with self._stopwatch.section("encode"):
            vector = self.encoder.encode(face.crop)
        if not self.sorter.is_on:
            return Embedding(face, vector, self.encoder.model_id, self.model_epoch)
        with self._stopwatch.section("cluster"):
            assignment = self.sorter.assign(face, vector)
        return Embedding(face, vector, self.encoder.model_id, self.model_epoch, assignment)

    def _swap(self, frame: Stamp) -> Iterator[Notice]:
        if self.waiting is None:
            return
        order, old = self.waiting, self.encoder
        self.waiting = None
        self.encoder = order.encoder
        self.model_epoch += 1
        if order.encoder.model_id not in self.model_ids:
            self.model_ids.append(order.encoder.model_id)
        new = {
            "old": old.model_id,
            "new": order.encoder.model_id,
            "model_epoch": self.model_epoch,
            "trained": order.encoder.trained,
        }
        yield Notice("model.swapped", frame.t_capture, {**new, "frame_index": frame.index, "reason": order.reason})

    def _presence(self, item: Sighting) -> Iterator[Notice]:
        now = frozenset(face.face_id for face in item.faces) if isinstance(item, Faces) else frozenset()
        where = {"frame_index": item.frame.index, "t_capture": item.frame.t_capture}
        for face_id in sorted(self._present - now):
            yield Notice("face.lost", item.frame.t_capture, {**where, "face_id": face_id, **self.sorter.token(END)})
        for face_id in sorted(now - self._present):
            yield Notice("face.found", item.frame.t_capture, {**where, "face_id": face_id, **self.sorter.token(START)})
        self._present = now


def _truth(frame: Stamp) -> Iterator[Marker]:
    """What the source itself knows of this frame, such as the demo's true expression."""
    if frame.label:
        yield Marker(frame.label, frame.t_capture, "source", {"frame_index": frame.index})
