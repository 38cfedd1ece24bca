"""What the main thread does for a control command."""

from __future__ import annotations

from collections.abc import Callable

from psm_stream.bundle import EncoderBundle
from psm_stream.errors import PsmError
from psm_stream.faces import RecentFaces
from psm_stream.people import home
from psm_stream.pipeline import Pipeline
from psm_stream.recording import Recording
from psm_stream.startup import Parts
from psm_stream.wire.ingress import Order

NO_ADAPTATION = "ERROR this version does not adapt yet; it runs one encoder throughout"


class Orders:
    """Carries out orders between two frames. Each handler returns the reply, or None when it comes later.

    swap: opens another encoder beside the loop, for a reason. stop: ends the run, for a reason.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        pipeline: Pipeline,
        recording: Recording,
        faces: RecentFaces,
        swap: Callable[[EncoderBundle, str], None],
        stop: Callable[[str], None],
    ) -> None:
        self.frozen = False
        self._parts = parts
        self._pipeline = pipeline
        self._recording = recording
        self._faces = faces
        self._swap = swap
        self._stop = stop
        self._snapshots = 0
        self._is_swapping = False
        self._handlers: dict[str, Callable[[Order], str | None]] = {
            "R": self._record,
            "r": self._stop_recording,
            "C": lambda _: NO_ADAPTATION,
            "c": lambda _: NO_ADAPTATION,
            "FREEZE": lambda _: self._freeze(True),
            "THAW": lambda _: self._freeze(False),
            "REVERT": self._revert,
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

    def admits_swap(self) -> bool:
        """Tell whether an encoder that was opened may be taken: not when a FREEZE came meanwhile."""
        self._is_swapping = False
        return not self.frozen

    def _record(self, order: Order) -> None:
        self._recording.start_aside(order.argument, order.reply)

    def _stop_recording(self, _: Order) -> str:
        stopped = self._recording.stop("asked to stop")
        return "ERROR nothing is being recorded" if stopped is None else f"OK {stopped}"

    def _freeze(self, frozen: bool) -> str:
        self.frozen = frozen
        return "OK"

    def _revert(self, _: Order) -> str:
        if self.frozen:
            return "ERROR frozen: no swaps; send THAW first"
        general = self._parts.general
        if self._is_swapping or self._pipeline.waiting is not None:
            return "ERROR a swap is under way"
        if self._pipeline.encoder.model_id == general.manifest.model_id:
            return "OK the general encoder runs already"
        self._is_swapping = True
        self._swap(general, "revert")
        return f"OK {general.manifest.model_id} is taken at a coming frame"

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
