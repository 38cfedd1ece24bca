"""The live loop: inputs in order, the pipeline, and what follows from it on the wire, in the log and in memory.

    capture thread --slot--> align thread --+
                                            +--> inbox --> main thread: Pipeline.step --> wire, recording, recent faces
    ingress thread (control, markers) ------+

`Live.run` is the whole flow. Alignment overlaps with encoding at one seam, the align thread, which keeps the order of
frames; everything that shapes results happens on the main thread.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from psm_stream.adaptation.adapter import Adapter
from psm_stream.adaptation.attempt import Said
from psm_stream.capture import Capture
from psm_stream.clusters.account import ClusterAccount
from psm_stream.clusters.clusters import Clusters, FitFailed, Wanted
from psm_stream.clusters.kept import KeptClusters
from psm_stream.clusters.process import ClusterProcess
from psm_stream.clusters.refit import Fitted
from psm_stream.console import Console
from psm_stream.ending import Stop, verdict
from psm_stream.faces import RecentFaces
from psm_stream.inbox import Inbox
from psm_stream.orders import Orders
from psm_stream.outlet import Outlet
from psm_stream.people_clusters import seeds
from psm_stream.pipeline import Pipeline
from psm_stream.recording import Opened, Recording
from psm_stream.slot import END, slot_for
from psm_stream.sources import Clock
from psm_stream.startup import Parts
from psm_stream.telemetry import Telemetry
from psm_stream.values import Embedding, Frame, Input, Marker, NameCluster, NoFace, Notice, Result, Sighting
from psm_stream.wire.ingress import Ingress, Order
from psm_stream.wire.messages import LogLine, MessageBuilder, json_bytes
from psm_stream.wire.publisher import Publisher

STATS_EVERY_S = 1.0
HEARTBEAT_EVERY_S = 2.0
MEANING_EVERY_S = 10.0
"""How often at least it is published what clusters mean, once there are some."""
PATIENCE_S = 0.1
"""Longest wait for an input, so that an interrupt is seen at once."""
ARRIVALS_WAITING = 100
"""So many unread inputs, and markers wait at their senders: a flood of them must not hold up the frames."""
JOIN_S = 0.2
"""How long the end waits for a thread that is inside a driver or a network; it is left behind then."""
FAREWELL_S = 0.1
"""Sockets close without lingering; so long ZeroMQ has for the last messages."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One aligned frame on its way to the main thread. align_s: what alignment took."""

    frame: Frame
    sighting: Sighting
    align_s: float


class SourceOpen(Enum):
    """The source is there: the run is ready."""

    SOURCE_OPEN = "source open"


SOURCE_OPEN: Final = SourceOpen.SOURCE_OPEN

Item: TypeAlias = (
    SourceOpen | Seen | Marker | Said | Fitted | FitFailed | Wanted | Order | Opened | Notice | LogLine | Stop
)


class Live:
    """One run. Build it with opened parts, call `run` once."""

    def __init__(self, parts: Parts, console: Console, clock: Clock) -> None:
        settings = parts.settings
        self.parts = parts
        self.telemetry = Telemetry(clock)
        self.pipeline = Pipeline(parts.encoder, self.telemetry.stopwatch)
        self.faces = RecentFaces(settings.faces, parts.crops.size_px, parts.crops.template)
        self.account = ClusterAccount()
        self.stopped: Stop | None = None
        self.final: dict[str, Any] = {}
        """The summary, once the run is over."""
        self.is_ready = False
        self._on_ready: Callable[[], None] = lambda: None
        self._interrupted_by: int | None = None
        self._clock = clock
        self._console = console
        fast = not parts.keeps_pace
        self._inbox: Inbox[Item] = Inbox(room=4 if fast else 1)
        self._slot = slot_for(parts.source, settings.source.pace)
        self._capture = Capture(
            parts.source,
            self._slot,
            clock,
            self._inbox.put,
            settings.source,
            max_frames=settings.frames,
            max_seconds=settings.duration_s,
            opened=lambda: self._inbox.put(SOURCE_OPEN),
        )
        self._aligning = threading.Thread(target=self._align, name="align", daemon=True)
        self._ingress = Ingress(
            parts.sockets,
            parts.about,
            self._inbox.put,
            self.state,
            clock,
            has_room=lambda: len(self._inbox) < ARRIVALS_WAITING,
            on_error=self._fail,
        )
        self.recording = Recording(parts, self.pipeline, self._inbox.put, lossless=fast)
        self.outlet = Outlet(
            Publisher(parts.sockets),
            MessageBuilder(parts.session, settings.wire.header, clock),
            recording=self.recording,
            telemetry=self.telemetry,
            console=console,
            clock=clock,
        )
        self.clusters = Clusters(
            settings.clusters,
            ClusterProcess(),
            pipeline=self.pipeline,
            post=self._inbox.put,
            order=self.feed,
            warn=lambda text: self.outlet.tell(LogLine("warning", text, clock())),
            is_frozen=lambda: self.adapter.frozen,
            waits=fast,
        )
        person = settings.person if settings.clusters.keep else ""
        self._kept = KeptClusters(
            person, lambda text: self._inbox.put(LogLine("error", text, clock())), parts.crops.template
        )
        self.adapter = Adapter(
            parts.plan,
            settings,
            parts.session,
            pipeline=self.pipeline,
            faces=self.faces,
            recording=self.recording,
            post=self._inbox.put,
            announce=self.outlet.announce,
            swap=self.feed,
            prepare=self.clusters.prepare,
            clock=clock,
        )
        self._orders = Orders(
            parts,
            pipeline=self.pipeline,
            recording=self.recording,
            faces=self.faces,
            adapter=self.adapter,
            clusters=self.clusters,
            table=lambda: json_bytes(self.account.table()).decode(),
            feed=self.feed,
            stop=self.stop,
        )
        self._next_stats = self._next_heartbeat = self._next_meaning = 0.0
        self._stats: dict[str, Any] = {}

    def run(self, on_ready: Callable[[], None] = lambda: None) -> Stop:
        """Run until the source ends, an order or an interrupt stops it, or something fails. Returns why it stopped.

        on_ready: called once, when the source is open and `notify.ready` is out.
        """
        self._on_ready = on_ready
        try:
            self._start()
            for item in self._inputs():
                self._take(item)
        except Exception as error:
            self.stop("failed", error)
        finally:
            self._close()
        assert self.stopped is not None
        return self.stopped

    def stop(self, reason: str, error: BaseException | None = None) -> None:
        """End the run after the input in hand. The first reason stays."""
        self.stopped = self.stopped or Stop(reason, error)

    def interrupt(self, exit_code: int) -> None:
        """End the run; safe in a signal handler, since it only sets a flag."""
        self._interrupted_by = exit_code

    def feed(self, item: Input) -> list[Result]:
        """Record one input, fold it into the pipeline, and send what follows."""
        self.recording.input(item)
        results = self.pipeline.step(item)
        self.outlet.results(results)
        if isinstance(item, NameCluster):
            self.account.named(item)
            self._clusters_changed()
        for result in results:
            if isinstance(result, Notice) and result.subject == "model.swapped":
                self.adapter.swapped()
                self.clusters.swapped()
            elif isinstance(result, Notice) and result.subject == "cluster.fitted":
                self._clusters_changed()
        return results

    def _clusters_changed(self) -> None:
        """Publish and keep what is new, the one at the next beat and the other aside."""
        self._stats = {**self._stats, **self._state()}
        self._next_meaning = 0.0
        self._keep_clusters()

    def _keep_clusters(self) -> None:
        if self.is_ready:  # before, the pipeline does not know the person's names
            sorter = self.pipeline.sorter
            self._kept.keep(self.clusters.rows, self.clusters.next_id, sorter.names_ordered, sorter.clustering)

    def state(self) -> dict[str, Any]:
        """What STATUS answers: the newest statistics. Called from the ingress thread."""
        return self._stats

    def _start(self) -> None:
        gc.collect()
        gc.freeze()  # a full collection over every imported module would stall the loop for tens of ms
        now = self._clock()
        self._next_stats, self._next_heartbeat = now + STATS_EVERY_S, now
        self._stats = self.summary()
        self._ingress.start()
        self._capture.start()
        self._aligning.start()

    def _get_ready(self) -> None:
        """All is warm and the source is open: record if asked to, and say so."""
        if self.parts.settings.record.root is not None:
            self.recording.start("")
        for item in self._beginnings():
            self.feed(item)
        self.telemetry.start()
        encoder = self.pipeline.encoder
        fields = self.parts.describe(encoder) | {"model_id": encoder.model_id}
        self.outlet.announce(Notice("ready", self._clock(), fields))
        self.is_ready = True
        self._on_ready()

    def _beginnings(self) -> Iterator[Input]:
        """Yield what is known of clusters before the first frame."""
        if self.parts.vocabulary is not None:
            yield self.parts.vocabulary
        known = self.parts.known
        if known is not None:
            rows = seeds(known, self.parts.crops.size_px)
            order = self.clusters.seed(rows, known.next_id, known.clustering)
            yield from (order,) if order is not None else ()
            yield from (NameCluster(cluster, name) for cluster, name in known.names.items())

    def _inputs(self) -> Iterator[Item]:
        """Yield what arrives, in order, and keep the beat meanwhile."""
        while self.stopped is None and self._interrupted_by is None:
            now = self._clock()
            self._beat(now)
            self.adapter.beat(now)
            item = self._inbox.get(min(self._next_stats - now, PATIENCE_S))
            if item is not None:
                yield item

    def _take(self, item: Item) -> None:
        match item:
            case Seen():
                self._see(item)
            case SourceOpen():
                self._get_ready()
            case Marker():
                self.feed(item)
            case Said():
                self.adapter.take(item)
            case Fitted() | FitFailed() | Wanted():
                self.clusters.take(item)
            case Order():
                self._orders.obey(item)
                self._stats = {**self._stats, **self._state()}
            case Notice():
                self.outlet.announce(item)
            case Opened():
                self.recording.attach(item)
            case LogLine():
                self.outlet.tell(item)
            case Stop():
                self.stop(item.reason, item.error)

    def _see(self, seen: Seen) -> None:
        self.telemetry.count(seen.sighting)
        self.telemetry.stopwatch.add("align", seen.align_s)
        self.recording.video(seen.frame)
        self.clusters.before_frame()
        self.adapter.before_frame()
        results = self.feed(seen.sighting)
        first = next(result for result in results if isinstance(result, Embedding | NoFace))
        self.outlet.latest(first, self.pipeline.encoder, self.pipeline.model_epoch)
        if isinstance(first, Embedding):
            self.adapter.see(first)
        for result in results:
            if isinstance(result, Embedding):
                self.faces.offer(result.face)
                self.account.see(result)
                self.clusters.see(result)

    def _beat(self, now: float) -> None:
        if now >= self._next_heartbeat:
            self.outlet.heartbeat()
            self._next_heartbeat = max(self._next_heartbeat + HEARTBEAT_EVERY_S, now)
        if now >= self._next_stats:
            self._stats = {**self.summary(), "recent": self.telemetry.recent()}
            self.outlet.stats(self._stats)
            self._console.show(self._stats)
            self._next_stats = max(self._next_stats + STATS_EVERY_S, now)
        if now >= self._next_meaning:
            self._say_meaning()
            self._next_meaning = now + MEANING_EVERY_S

    def _say_meaning(self) -> None:
        if self.pipeline.sorter.is_on:
            self.outlet.stats(self.account.table(), "clusters")

    def _align(self) -> None:
        """The align thread: frames from the slot become sightings in the inbox. Its errors reach the main thread."""
        try:
            while (frame := self._slot.get()) is not END:
                assert isinstance(frame, Frame)
                start = self._clock()
                sighting = self.parts.aligner(frame)
                self._inbox.put_when_room(Seen(frame, sighting, self._clock() - start))
            self._inbox.put(Stop("source ended"))
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._inbox.put(Stop("failed", error))

    def summary(self) -> dict[str, Any]:
        """Return the statistics so far, as published and as written by --summary."""
        queues = {"slot": self._slot.depth, "inbox": len(self._inbox), "recorder": self.recording.depth}
        return self.telemetry.summary(
            {
                "session": self.parts.session,
                **self.parts.describe(self.pipeline.encoder),
                "published": dict(sorted(self.outlet.publisher.published.items())),
                "adaptations": list(self.adapter.adaptations),
                **self._state(),
                "recent_faces": len(self.faces),
                "recent_faces_capacity": self.parts.settings.faces.capacity,
                "markers": {"taken": self._ingress.markers_taken, "malformed": self._ingress.markers_malformed},
                "queues": queues,
            }
        )

    def _state(self) -> dict[str, Any]:
        """What orders change."""
        return {
            "model_id": self.pipeline.encoder.model_id,
            "model_ids": list(self.pipeline.model_ids),
            "model_epoch": self.pipeline.model_epoch,
            "frozen": self.adapter.frozen,
            "adapting": self.adapter.status(),
            "clusters": self.clusters.status(),
            "recording": self.recording.folder,
        }

    def _close(self) -> None:
        """Let go of everything, in the order in which it feeds each other; each step runs, whatever the last did."""
        if self._interrupted_by is not None:
            self.stop("interrupted")
        self.telemetry.stop()
        for step in (
            self._stop_adapting,
            self._stop_frames,
            self._take_what_is_left,
            self._say_the_last,
            self._stop_recording,
            self.adapter.close,
            self._keep_clusters,
            self.clusters.close,
            self._kept.close,
            self._take_what_is_left,
            self._let_go,
        ):
            try:
                step()
            except Exception as error:
                self.stop("failed", error)

    def _stop_adapting(self) -> None:
        self.adapter.stop("the run ended")

    def _stop_frames(self) -> None:
        self._capture.stop()
        self._slot.close()
        self._inbox.close()
        self._capture.join(JOIN_S)
        if self._aligning.ident is not None:
            self._aligning.join(JOIN_S)

    def _take_what_is_left(self) -> None:
        """Take the markers and announcements that wait; orders are answered by the ingress as it shuts down."""
        while (item := self._inbox.get(0.0)) is not None:
            if isinstance(item, Marker | Notice | LogLine):
                self._take(item)
            elif isinstance(item, Seen):
                self.telemetry.count_unprocessed(item.frame.stamp)
            elif isinstance(item, Opened):
                self.recording.abandon(item)
            elif isinstance(item, Wanted):
                item.done.set_result(None)
            elif isinstance(item, Stop):
                self.stop(item.reason, item.error)

    def _say_the_last(self) -> None:
        """Publish what clusters mean, and the summary as the last of the statistics."""
        self._say_meaning()
        self.telemetry.count_rest(self._capture.captured, self._slot.undelivered)
        self.final = {**self.summary(), "recent": self.telemetry.recent(), **self._verdict()}
        self.outlet.stats(self.final)

    def _verdict(self) -> dict[str, Any]:
        stopped = self.stopped or Stop("interrupted")
        code, complaint = verdict(stopped, self._interrupted_by, self.telemetry, self.recording.failure)
        return {"exit": code, "exit_reason": complaint or stopped.reason, "complaint": complaint}

    def _stop_recording(self) -> None:
        self.recording.stop(self.stopped.reason if self.stopped else "interrupted")
        if not self.recording.join(is_hurried=lambda: self._interrupted_by is not None):
            self._console.warn("the disk is slow: the recording lacks its end, but opens")
        self.final |= self._verdict()  # the disk may have refused the last records
        self._take_what_is_left()

    def _let_go(self) -> None:
        self._ingress.stop()
        try:
            self._ingress.join()
        finally:
            time.sleep(FAREWELL_S)
            self.parts.close(aligner_in_use=self._aligning.is_alive())
