"""The outlet: whatever leaves the main thread goes through here, to the wire, into the log and to the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from psm_stream.console import Console
from psm_stream.encoder import Encoder
from psm_stream.recording import Recording
from psm_stream.telemetry import Telemetry
from psm_stream.values import Embedding, NoFace, Notice, Result
from psm_stream.wire.messages import LogLine, Message, MessageBuilder
from psm_stream.wire.publisher import Publisher


class Outlet:
    """Publishes, records and shows. For the main thread; nothing here waits."""

    def __init__(
        self,
        publisher: Publisher,
        builder: MessageBuilder,
        *,
        recording: Recording,
        telemetry: Telemetry,
        console: Console,
        clock: Callable[[], float],
    ) -> None:
        self.publisher = publisher
        self._builder = builder
        self._recording = recording
        self._telemetry = telemetry
        self._console = console
        self._clock = clock

    def results(self, results: Iterable[Result]) -> None:
        """Send what the pipeline gave."""
        for result in results:
            for message in self._builder.build(result):
                self._send(message)
            if isinstance(result, Embedding):
                self._telemetry.published(result.face.frame.t_capture, self._clock())
            elif isinstance(result, Notice):
                self._console.tell(result)

    def announce(self, notice: Notice) -> None:
        """Say that something happened."""
        self.results([notice])

    def latest(self, first: Embedding | NoFace, encoder: Encoder, model_epoch: int) -> None:
        """Send one message a frame on the `latest` port: the first face's embedding, or that there is none."""
        if isinstance(first, Embedding):
            message = self._builder.latest(first)
        else:
            message = self._builder.latest_without_face(first, encoder.dimension, encoder.model_id, model_epoch)
        self.publisher.send_latest(message)

    def stats(self, values: Mapping[str, Any], leaf: str = "pipeline") -> None:
        """Send statistics."""
        self._send(self._builder.stats(values, leaf))

    def heartbeat(self) -> None:
        """Send a sign of life."""
        self._send(self._builder.heartbeat())

    def tell(self, line: LogLine) -> None:
        """Send a line for people, and show it."""
        self._send(self._builder.log(line))
        self._console.warn(line.text)

    def _send(self, message: Message) -> None:
        with self._telemetry.stopwatch.section("publish"):
            self.publisher.send(message)
        self._recording.message(message)
