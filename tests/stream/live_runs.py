"""A live run under test: real threads, sockets, pipeline and encoders; the source and the aligner are fakes."""

import json
import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgpack

from psm_stream.adaptation.plan import Plan
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.client import Control
from psm_stream.config import load
from psm_stream.console import Console
from psm_stream.encoder import open_encoder
from psm_stream.live import Live, Stop
from psm_stream.record.testing import a_face
from psm_stream.startup import Parts
from psm_stream.testing import FakeSource, picture
from psm_stream.values import Faces, Frame, NoFace, Sighting
from psm_stream.wire.ingress import About
from psm_stream.wire.messages import Message
from psm_stream.wire.ports import open_sockets

PATIENCE_S = 30
GENERAL = open_bundle(general_bundle())
OFF = Plan("off", "a test")


class FakeAligner:
    """Sees faces with the given ids in every frame, but for what `scripted` says of a frame's index."""

    name = "fake"

    def __init__(self, *face_ids: int, scripted: dict[int, BaseException | str] | None = None) -> None:
        self._face_ids = face_ids
        self._scripted = scripted or {}
        self.is_open = True

    def __call__(self, frame: Frame) -> Sighting:
        what = self._scripted.get(frame.stamp.index)
        if isinstance(what, BaseException):
            raise what
        if what is not None:
            return NoFace(frame.stamp, what)
        return Faces(
            frame.stamp,
            tuple(replace(a_face(frame.stamp, n, size_px=128), confidence=0.9) for n in self._face_ids),
        )

    def warm_up(self) -> None:
        return

    def close(self) -> None:
        self.is_open = False


class Heard:
    """Takes the publisher's place, and keeps what is published. on: called in the main thread with each message."""

    def __init__(self, on: Callable[[Message], None] = lambda _: None) -> None:
        self.messages: list[Message] = []
        self.published: Counter[str] = Counter()
        self._on = on
        self._changed = threading.Condition()

    def send(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self.published[message.kind] += 1
            self._changed.notify_all()
        self._on(message)

    send_latest = send

    def headers(self, topic: str) -> list[dict]:
        return [msgpack.unpackb(message.header) for message in self.messages if message.topic == topic]

    def wait_for(self, topic: str, count: int = 1) -> dict:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.headers(topic)) >= count, PATIENCE_S), f"no {topic}"
        return self.headers(topic)[count - 1]

    def stats(self) -> list[dict]:
        return [json.loads(message.payload) for message in self.messages if message.topic == "stats.pipeline"]


class Feed:
    """Frames one by one, when the test says so. `end` ends the source."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.given = 0

    def frames(self, count: int) -> None:
        for _ in range(count):
            self._queue.put(picture(self.given, self.given / 30))
            self.given += 1

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[object]:
        return iter(self._queue.get, None)


def a_live(
    source: FakeSource, aligner: FakeAligner | None = None, bundle=GENERAL, plan=OFF, known=None, **settings
) -> Live:
    plain = {"wire.control_port": "auto", "encoder.device": "cpu", "record.min_free_gb": 0, "source.pace": "fast"}
    plain["clusters.method"] = "off"  # tests/stream/test_live_clusters.py has them
    resolved = load(None, plain | {key.replace("__", "."): value for key, value in settings.items()})
    session = uuid.uuid4().hex
    parts = Parts(
        resolved,
        session,
        About(session, 0.0),
        open_sockets(resolved.wire),
        source,
        aligner or FakeAligner(0),
        encoder := open_encoder(bundle, "cpu"),
        encoder if bundle == GENERAL else open_encoder(GENERAL, "cpu"),
        plan,
        known=known,
    )
    live = Live(parts, Console(quiet=True), time.monotonic)
    live.outlet.publisher = Heard()
    return live


def frames_of(count: int) -> FakeSource:
    return FakeSource([picture(n, n / 30) for n in range(count)], is_live=False)


def balanced(summary: dict) -> bool:
    return summary["frames"]["captured"] == summary["frames"]["processed"] + sum(summary["frames"]["dropped"].values())


@contextmanager
def running(live: Live) -> Iterator[Control]:
    """Run it in a thread, and talk to it by its control port. It is stopped when the test is through with it."""
    stops: list[Stop] = []
    thread = threading.Thread(target=lambda: stops.append(live.run()))
    thread.start()
    try:
        with Control(f"tcp://127.0.0.1:{live.parts.sockets.ports.control}", timeout_s=PATIENCE_S) as control:
            yield control
    finally:
        live.stop("the test ended")
        thread.join(PATIENCE_S)
    assert stops
