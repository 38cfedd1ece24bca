"""What the main thread does for a control command."""

from __future__ import annotations

from collections.abc import Callable

from psm_stream.adaptation.adapter import Adapter
from psm_stream.clusters.clusters import Clusters
from psm_stream.clusters.naming import parse_name
from psm_stream.errors import PsmError
from psm_stream.faces import RecentFaces
from psm_stream.people import general_id, home
from psm_stream.pipeline import Pipeline
from psm_stream.recording import Recording
from psm_stream.startup import Parts
from psm_stream.values import NameCluster, SwapEncoder
from psm_stream.wire.ingress import Order


class Orders:
    """Carries out orders between two frames. Each handler returns the reply, or None when it comes later.

    table: what is known of each cluster, as JSON. feed: gives an order to the pipeline. stop: ends the run, for a
    reason.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        pipeline: Pipeline,
        recording: Recording,
        faces: RecentFaces,
        adapter: Adapter,
        clusters: Clusters,
        table: Callable[[], str],
        feed: Callable[[SwapEncoder | NameCluster], object],
        stop: Callable[[str], None],
    ) -> None:
        self._parts = parts
        self._pipeline = pipeline
        self._recording = recording
        self._faces = faces
        self._adapter = adapter
        self._feed = feed
        self._stop = stop
        self._snapshots = 0
        self._handlers: dict[str, Callable[[Order], str | None]] = {
            "R": self._record,
            "r": self._stop_recording,
            "C": lambda _: adapter.adapt_now(),
            "c": lambda _: adapter.stop_adapting(),
            "FREEZE": self._freeze,
            "THAW": self._thaw,
            "REVERT": self._revert,
            "RECLUSTER": lambda _: clusters.recluster(),
            "CLUSTERS": lambda _: table(),
            "L": self._name,
            "SNAPSHOT": self._snapshot,
            "QUIT": self._quit,
        }

    def obey(self, order: Order) -> None:
        """Carry out an order and answer it. An expected error is the answer; the run goes on."""
        try:
            reply = self._handlers[order.command](order)
        except PsmError as error:
            reply = f"ERROR {error}"
        if reply is not None:
            order.reply.set_result(reply)

    def _record(self, order: Order) -> None:
        self._recording.start_aside(order.argument, order.reply)

    def _stop_recording(self, _: Order) -> str:
        stopped = self._recording.stop("asked to stop")
        return "ERROR nothing is being recorded" if stopped is None else f"OK {stopped}"

    def _freeze(self, _: Order) -> str:
        self._adapter.frozen = True
        return "OK"

    def _thaw(self, _: Order) -> str:
        self._adapter.frozen = False
        return "OK"

    def _revert(self, _: Order) -> str:
        if self._adapter.frozen:
            return "ERROR frozen: no swaps; send THAW first"
        stopped = self._adapter.pause("stopped by REVERT")
        also = f"; {stopped}" if stopped else ""
        target = self._parts.reverts_to
        if self._pipeline.waiting is None and self._pipeline.encoder is target:
            return f"OK {self._what_it_reverts_to()} runs already{also}"
        self._feed(SwapEncoder(target, "revert"))
        return f"OK {target.model_id} is taken at the next frame{also}"

    def _what_it_reverts_to(self) -> str:
        """The encoder that REVERT goes back to, in words."""
        if self._parts.reverts_to.model_id == general_id():
            return "the general encoder"
        return "the encoder that this run started with (the general one takes other crops)"

    def _name(self, order: Order) -> str:
        named = parse_name(order.argument, self._pipeline.sorter)
        self._feed(named)
        return (
            f"OK cluster {named.cluster} is called {named.name}"
            if named.name
            else f"OK cluster {named.cluster} has no name"
        )

    def _snapshot(self, order: Order) -> None:
        self._snapshots += 1
        path = home() / "snapshots" / f"{self._parts.session}-{self._snapshots:03d}.npz"
        done = self._faces.snapshot(path)
        done.add_done_callback(
            lambda result: order.reply.set_result(
                f"OK {path}" if result.exception() is None else f"ERROR {result.exception()}"
            )
        )

    def _quit(self, _: Order) -> str:
        self._stop("asked to quit")
        return "OK"
