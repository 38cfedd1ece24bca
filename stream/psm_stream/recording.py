"""Recording within a run: at most one recorder at a time, started and stopped by option or order."""

from __future__ import annotations

from collections.abc import Callable

from psm_stream import config
from psm_stream.errors import SessionError
from psm_stream.pipeline import Pipeline
from psm_stream.record.writer import Opening, Recorder
from psm_stream.startup import Parts
from psm_stream.values import Frame, Input, Notice
from psm_stream.wire.messages import Message

HURRY_S = 0.4
PATIENCE_S = 60.0
"""How long the end of a run waits for the disk, with and without somebody at Ctrl-C."""


class Recording:
    """Hands what happens to the recorder, if there is one. Used by the main thread.

    notify: told what the recorder reports, from any thread. lossless: wait for the disk rather than stop recording,
    which is right at pace `fast` and wrong for anything live.
    """

    def __init__(self, parts: Parts, pipeline: Pipeline, notify: Callable[[Notice], None], lossless: bool) -> None:
        self._parts = parts
        self._pipeline = pipeline
        self._notify = notify
        self._lossless = lossless
        self._recorder: Recorder | None = None

    @property
    def folder(self) -> str | None:
        """The session folder that is being written, or None."""
        return str(self._recorder.folder) if self._recorder is not None and self._recorder.is_recording else None

    @property
    def depth(self) -> int:
        """How many records wait for the disk."""
        return int(self._recorder.status()["queued"]) if self._recorder is not None else 0

    def start(self, name: str) -> str:
        """Begin a session; returns its folder. Raises SessionError: one is being written, or the folder cannot be."""
        if self.folder is not None:
            raise SessionError(f"already recording into {self.folder}; send r first")
        opening = Opening(
            run=self._parts.session,
            config=config.public(self._parts.settings),
            source=self._parts.source.name,
            encoder=self._pipeline.encoder,
            model_epoch=self._pipeline.model_epoch,
            waiting=self._pipeline.waiting,
            is_live=self._parts.source.is_live or self._parts.settings.source.pace == "live",
            name=name,
        )
        self._recorder = Recorder.start(
            self._parts.settings.record, opening, self._notify, wait_when_full=self._lossless
        )
        return str(self._recorder.folder)

    def input(self, item: Input) -> None:
        """Record an input, before the pipeline takes it."""
        if self._recorder is not None:
            self._recorder.input(item)

    def message(self, message: Message) -> None:
        """Record a published message."""
        if self._recorder is not None:
            self._recorder.message(message)

    def video(self, frame: Frame) -> None:
        """Record a frame's picture, if video is on."""
        if self._recorder is not None:
            self._recorder.frame(frame)

    def stop(self, reason: str) -> None:
        """End the session, if one is being written; the recorder's thread writes the rest."""
        if self._recorder is not None:
            self._recorder.stop(reason)

    def join(self, in_a_hurry: bool) -> bool:
        """Wait for the rest to be written. False: the disk did not take it in time."""
        return self._recorder is None or self._recorder.join(HURRY_S if in_a_hurry else PATIENCE_S)
