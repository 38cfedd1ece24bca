"""A live loop without camera, aligner and encoder: real sockets, invented faces.

For tests of everything that subscribes, and for developing a subscriber at a desk without a camera.
"""

from __future__ import annotations

import math
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from psm_stream.config import WireSettings
from psm_stream.values import AlignedFace, Assignment, Embedding, Marker, Result, Stamp
from psm_stream.wire.control import About, Order
from psm_stream.wire.ingress import Arrival, Ingress
from psm_stream.wire.messages import LogLine, MessageBuilder
from psm_stream.wire.ports import open_sockets
from psm_stream.wire.publisher import Publisher

DIMENSION = 256
MODEL_ID = "0123456789ab"

Item: TypeAlias = Result | Arrival


class FakeLive:
    """Publishes an embedding at `hz`, takes markers and answers orders, in a thread, until `close`.

    Element k of the vector of frame i is sin(i + k), so that a reader can check what it got. Every tenth frame is
    followed by a heartbeat and statistics. has_clusters: of each 100 frames the first 60 are in no cluster, and the
    others in cluster 3, which is called "smile".

    Attributes:
        markers, orders, log: what came in, in order. Read them after something proved that it arrived.
        published: index of the newest published frame, -1 before the first.
    """

    def __init__(self, wire: WireSettings | None = None, hz: float = 200.0, *, has_clusters: bool = False) -> None:
        wire = wire or WireSettings(control_port="auto")
        self.markers: list[Marker] = []
        self.orders: list[Order] = []
        self.log: list[LogLine] = []
        self.published = -1
        self.session = uuid.uuid4().hex
        self._period_s = 1 / hz
        self._has_clusters = has_clusters
        self._inbox: queue.SimpleQueue[Item | BaseException | None] = queue.SimpleQueue()
        self._sockets = open_sockets(wire)
        self.ports = self._sockets.ports
        self._publisher = Publisher(self._sockets)
        self._builder = MessageBuilder(self.session, wire.header, time.monotonic)
        about = About(self.session, time.time() - time.monotonic(), wire.header)
        self._ingress = Ingress(
            self._sockets, about, self._inbox.put, self._state, time.monotonic, on_error=self._inbox.put
        )
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name="fake-live", daemon=True)
        self._ingress.start()
        self._thread.start()

    @property
    def address(self) -> str:
        """Of the control port."""
        return f"tcp://127.0.0.1:{self.ports.control}"

    def put(self, item: Result) -> None:
        """Publish something of the caller's own. From any thread."""
        self._inbox.put(item)

    def close(self) -> None:
        """Stop, give the ports back and raise what went wrong in the threads, if anything did."""
        self._inbox.put(None)
        self._thread.join()
        self._ingress.stop()
        try:
            self._ingress.join()
        finally:
            self._sockets.close()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> FakeLive:
        """Use as a context manager: closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()

    def _state(self) -> Mapping[str, Any]:
        return {"model_id": MODEL_ID, "frame_index": self.published}

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._error = error

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            try:
                item = self._inbox.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                self._publish_frame()
                due = max(due + self._period_s, time.monotonic())
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            self._take(item)

    def _take(self, item: Item) -> None:
        if isinstance(item, Order):
            self.orders.append(item)
            item.reply.set_result(
                "ERROR adaptation is not part of this version" if item.command in "Cc" else f"OK {item.command}"
            )
        elif isinstance(item, LogLine):
            self.log.append(item)
            self._publisher.send(self._builder.log(item))
        else:
            if isinstance(item, Marker):
                self.markers.append(item)
            for message in self._builder.build(item):
                self._publisher.send(message)

    def _publish_frame(self) -> None:
        index = self.published + 1
        embedding = fake_embedding(index, time.monotonic())
        if self._has_clusters:
            embedding = replace(embedding, assignment=fake_assignment(index))
        for message in self._builder.build(embedding):
            self._publisher.send(message)
        self._publisher.send_latest(self._builder.latest(embedding))
        self.published = index
        if index % 10 == 0:
            self._publisher.send(self._builder.heartbeat())
            self._publisher.send(self._builder.stats({"frames": {"processed": index + 1}, "fps": math.nan}))


def fake_assignment(index: int) -> Assignment:
    """Return the cluster of frame `index`."""
    return Assignment(3, 0.75, 0.1, 1, "smile") if index % 100 >= 60 else Assignment(-1, 0.0, 0.9, 1)


def fake_embedding(index: int, t_capture: float, face_id: int = 0) -> Embedding:
    """Return the embedding of frame `index`: element k is sin(index + k)."""
    landmarks = np.linspace(0, 100, 2 * 478, dtype=np.float32).reshape(478, 2)
    face = AlignedFace(
        frame=Stamp(index, t_capture),
        face_id=face_id,
        crop=np.zeros((8, 8, 3), np.uint8),
        landmarks=landmarks,
        to_crop=np.eye(2, 3, dtype=np.float32),
        confidence=0.9,
    )
    return Embedding(face, np.sin(np.arange(DIMENSION, dtype=np.float32) + index), MODEL_ID, 0)
