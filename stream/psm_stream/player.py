"""Playing a session again: its recomputed results go over the wire, so that subscribers can be written offline.

The clock of the run that was recorded goes on: `t`, `t_publish` and markers from outside are on the time line of the
recorded `t_capture`, so a subscriber that measures its own latency finds what it would find live.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import psm_stream
from psm_stream.clusters.account import ClusterAccount
from psm_stream.replay import Replay
from psm_stream.telemetry import Telemetry
from psm_stream.values import Embedding, Faces, Marker, NameCluster, NoFace, Notice, Result
from psm_stream.wire.ingress import About, Arrival, Ingress, Order
from psm_stream.wire.messages import HeaderFormat, LogLine, Message, MessageBuilder, json_bytes
from psm_stream.wire.ports import Sockets
from psm_stream.wire.publisher import Publisher

HEARTBEAT_EVERY_S = 2.0
STATS_EVERY_S = 1.0
MEANING_EVERY_S = 10.0

ONLY_REPLAY = "ERROR this is a replay: it takes markers, questions and QUIT"


@dataclass(frozen=True, slots=True)
class Played:
    """What was published. is_complete: False when QUIT came first."""

    frames: int
    embeddings: int
    is_complete: bool


class Player:
    """Publishes one replay. Main thread; `run` once. The caller closes the sockets."""

    def __init__(
        self,
        replay: Replay,
        sockets: Sockets,
        header_format: HeaderFormat,
        pace: Literal["live", "fast"] = "live",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: seconds, any monotonic one; it is shifted to the recording's time line."""
        self._replay = replay
        self._is_paced = pace == "live"
        self._shift = clock() - replay.session.info.started.monotonic
        self._real_clock = clock
        self._session = uuid.uuid4().hex
        about = About(self._session, time.time() - self._clock(), header_format)
        self._inbox: queue.SimpleQueue[Arrival | BaseException] = queue.SimpleQueue()
        self._ingress = Ingress(sockets, about, self._inbox.put, self._state, self._clock, on_error=self._inbox.put)
        self._publisher = Publisher(sockets)
        self._builder = MessageBuilder(self._session, header_format, self._clock)
        self._telemetry = Telemetry(self._clock)
        self._account = ClusterAccount()
        self._ports = sockets.ports
        self._is_told_to_quit = False
        self._embeddings = 0
        self._stats: dict[str, Any] = self._summary()
        self._next_heartbeat = self._next_stats = self._next_meaning = self._clock()

    def run(self) -> Played:
        """Publish from the beginning to the end. Raises SessionError: the log is damaged on the way."""
        self._ingress.start()
        try:
            self._publisher.send(self._builder.notice(Notice("ready", self._clock(), self._about())))
            for logged, results in self._replay.steps():
                value = logged.value
                if not isinstance(value, Message):
                    self._wait_until(logged.t)
                    if self._is_told_to_quit:
                        break
                    self._publish(value, results)
            self._say_meaning()
            self._publisher.send(self._builder.stats(self._summary()))
        finally:
            self._ingress.stop()
            self._ingress.join()
        return Played(self._telemetry.processed, self._embeddings, not self._is_told_to_quit)

    def _clock(self) -> float:
        """Now, on the recording's monotonic clock."""
        return self._real_clock() - self._shift

    def _publish(self, value: object, results: list[Result]) -> None:
        for result in results:
            for message in self._builder.build(result):
                self._publisher.send(message)
            if isinstance(result, Embedding):
                self._embeddings += 1
                self._account.see(result)
                if self._is_paced:  # else the recorded times lie ahead of the clock
                    self._telemetry.published(result.face.frame.t_capture, self._clock())
            elif isinstance(result, Notice) and result.subject == "cluster.fitted":
                self._next_meaning = self._clock()
        if isinstance(value, NameCluster):
            self._account.named(value)
        if isinstance(value, Faces | NoFace):
            self._telemetry.count(value)
            self._send_latest(results)

    def _send_latest(self, results: list[Result]) -> None:
        first = next(result for result in results if isinstance(result, Embedding | NoFace))
        encoder, epoch = self._replay.pipeline.encoder, self._replay.pipeline.model_epoch
        self._publisher.send_latest(
            self._builder.latest(first)
            if isinstance(first, Embedding)
            else self._builder.latest_without_face(first, encoder.dimension, encoder.model_id, epoch)
        )

    def _wait_until(self, t: float) -> None:
        """Let the time come, and meanwhile take what arrives and keep the beat; at the fast pace do that once."""
        while not self._is_told_to_quit:
            for _ in range(self._inbox.qsize()):  # no more than is there now, so that a flood cannot hold up frames
                self._take(self._inbox.get())
            now = self._clock()
            self._beat(now)
            if not self._is_paced or now >= t:
                return
            with suppress(queue.Empty):
                self._take(self._inbox.get(timeout=min(t, self._next_heartbeat, self._next_stats) - now))

    def _take(self, item: Arrival | BaseException) -> None:
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Order):
            self._is_told_to_quit |= item.command == "QUIT"
            item.reply.set_result(self._answer(item.command))
        elif isinstance(item, LogLine):
            self._publisher.send(self._builder.log(item))
        elif isinstance(item, Marker):
            self._publish(item, self._replay.pipeline.step(item))

    def _answer(self, command: str) -> str:
        if command == "CLUSTERS":
            return json_bytes(self._account.table()).decode()
        return "OK" if command == "QUIT" else ONLY_REPLAY

    def _beat(self, now: float) -> None:
        if now >= self._next_heartbeat:
            self._publisher.send(self._builder.heartbeat())
            self._next_heartbeat = max(self._next_heartbeat + HEARTBEAT_EVERY_S, now)
        if now >= self._next_stats:
            self._stats = self._summary()
            self._publisher.send(self._builder.stats(self._stats))
            self._next_stats = max(self._next_stats + STATS_EVERY_S, now)
        if now >= self._next_meaning:
            self._say_meaning()
            self._next_meaning = now + MEANING_EVERY_S

    def _say_meaning(self) -> None:
        if self._replay.pipeline.sorter.is_on:
            self._publisher.send(self._builder.stats(self._account.table(), "clusters"))

    def _state(self) -> dict[str, Any]:
        """What STATUS answers; called from the ingress thread."""
        return self._stats

    def _about(self) -> dict[str, Any]:
        info, encoder = self._replay.session.info, self._replay.pipeline.encoder
        return {
            "version": psm_stream.__version__,
            "source": f"replay of {info.source}",
            "replay_of": info.uuid,
            "recorded_unix": info.started.unix,
            "trained": encoder.trained,
            "providers": [encoder.provider],
        }

    def _summary(self) -> dict[str, Any]:
        return self._telemetry.summary(
            {
                **self._about(),
                "published": dict(sorted(self._publisher.published.items())),
                "adaptations": [],
                "model_id": self._replay.pipeline.encoder.model_id,
                "model_ids": self._replay.pipeline.model_ids,
                "model_epoch": self._replay.pipeline.model_epoch,
            }
        )
