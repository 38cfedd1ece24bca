"""Recording within a run: at most one recorder at a time, started and stopped by option or order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psm_stream.adaptation.layout import OUT, SNAPSHOT
from psm_stream.errors import PsmError, SessionError
from psm_stream.pipeline import Pipeline
from psm_stream.record.adaptations import Handover
from psm_stream.record.writer import Opening, Recorder
from psm_stream.startup import Parts
from psm_stream.values import Frame, Input, Notice
from psm_stream.wire.messages import Message

HURRY_S = 0.3
PATIENCE_S = 60.0
"""How long the end of a run waits for the disk, with and without somebody at Ctrl-C."""
SLICE_S = 0.05


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of opening a session beside the loop. reply: to whoever asked for it."""

    opening: Opening
    reply: Future[str]
    recorder: Recorder | None
    error: BaseException | None = None


class Recording:
    """Hands what happens to the recorder, if there is one. Used by the main thread.

    post: takes what the recorder reports, and sessions opened aside, from any thread. lossless: wait for the disk
    rather than stop recording, which is right at pace `fast` and wrong for anything live.
    """

    def __init__(
        self, parts: Parts, pipeline: Pipeline, post: Callable[[Notice | Opened], None], lossless: bool
    ) -> None:
        self._parts = parts
        self._pipeline = pipeline
        self._post = post
        self._lossless = lossless
        self._recorder: Recorder | None = None
        self._asked_for: Recorder | None = None
        self._started: list[Recorder] = []
        """Every one whose end was not seen yet, in whatever hands it is."""
        self._opening_thread: threading.Thread | None = None
        self._is_cancelled = False

    @property
    def folder(self) -> str | None:
        """The session folder that is being written, or None."""
        return str(self._recorder.folder) if self._recorder is not None and self._recorder.is_recording else None

    @property
    def depth(self) -> int:
        """How many records wait for the disk."""
        return int(self._recorder.status()["queued"]) if self._recorder is not None else 0

    @property
    def failure(self) -> str:
        """Why the recording that --record asked for ended by itself, or ""; final after `join`."""
        return self._asked_for.failure if self._asked_for is not None else ""

    def start(self, name: str) -> str:
        """Begin a session before the run does; returns its folder. Raises SessionError: it cannot be written."""
        self._asked_for = self._open(self._opening(name))
        self._begin(self._asked_for)
        return str(self._asked_for.folder)

    def start_aside(self, name: str, reply: Future[str]) -> None:
        """Open a session in a thread of its own, so that a slow disk does not hold up the loop; `attach` takes it.

        Raises SessionError: one is being written, or opened.
        """
        if self.folder is not None:
            raise SessionError(f"already recording into {self.folder}; send r first")
        if self._opening_thread is not None:
            raise SessionError("a recording is being opened already")
        opening = self._opening(name)

        def work() -> None:
            try:
                self._post(Opened(opening, reply, self._open(opening)))
            except BaseException as error:  # told to whoever asked; `attach` raises what is a defect
                self._post(Opened(opening, reply, None, error))

        self._is_cancelled = False
        self._opening_thread = threading.Thread(target=work, name="open-session", daemon=True)
        self._opening_thread.start()

    def attach(self, opened: Opened) -> None:
        """Record from here on into the session that was opened, unless the encoder changed since it was described."""
        self._opening_thread = None
        if opened.recorder is None:
            assert opened.error is not None
            opened.reply.set_exception(opened.error)
            if not isinstance(opened.error, PsmError):
                raise opened.error
        elif self._is_cancelled:
            opened.recorder.stop("asked to stop")
            opened.reply.set_result("ERROR it was stopped before it began")
        elif not self._is_up_to_date(opened.opening):
            opened.recorder.stop("an encoder swap came between")
            self.start_aside(opened.opening.name, opened.reply)
        else:
            self._begin(opened.recorder)
            opened.reply.set_result(f"OK {opened.recorder.folder}")

    def _begin(self, recorder: Recorder) -> None:
        """Record from here on, first what a replay needs to begin where the pipeline is."""
        self._recorder = recorder
        for item in self._pipeline.standing():
            recorder.input(item)

    def _is_up_to_date(self, opening: Opening) -> bool:
        """Whether no swap came since. The encoder may be back, as after REVERT, and the epoch be two more."""
        now = self._pipeline
        then = (opening.encoder, opening.model_epoch, opening.waiting)
        return then == (now.encoder, now.model_epoch, now.waiting)

    def _opening(self, name: str) -> Opening:
        return Opening(
            run=self._parts.session,
            config=self._parts.as_run(),
            source=self._parts.source.name,
            encoder=self._pipeline.encoder,
            model_epoch=self._pipeline.model_epoch,
            waiting=self._pipeline.waiting,
            is_live=self._parts.source.is_live or self._parts.settings.source.pace == "live",
            name=name,
        )

    def _open(self, opening: Opening) -> Recorder:
        recorder = Recorder.start(self._parts.settings.record, opening, self._post, wait_when_full=self._lossless)
        self._started.append(recorder)
        return recorder

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

    def adaptation(self, folder: Path, job: Mapping[str, Any], failure: str = "") -> Future[Path | None]:
        """Record an adaptation that has ended: copied in a thread, so call it before the swap and do not wait.

        folder: holds `snapshot.npz`, and what the worker wrote in `out/`; both must stay until the future is done.
        job: what the worker was told. failure: why there is no verdict, or "".
        The future gives the folder in the session, or None: nothing is being recorded, or it could not be kept.
        """
        if self._recorder is not None:
            return self._recorder.adaptation(Handover(folder / SNAPSHOT, folder / OUT, dict(job), failure))
        nothing: Future[Path | None] = Future()
        nothing.set_result(None)
        return nothing

    def stop(self, reason: str) -> str | None:
        """End the session that is being written or opened; its thread writes the rest. Returns its folder, if known.

        None: there was nothing to stop.
        """
        if self._opening_thread is not None and not self._is_cancelled:
            self._is_cancelled = True
            return "the recording that was being opened is stopped"
        folder = self.folder
        if self._recorder is not None:
            self._recorder.stop(reason)
            self._recorder = None
        return folder

    def join(self, is_hurried: Callable[[], bool]) -> bool:
        """End every session, also one that is just being opened, and wait for its rest to be written.

        False: the disk did not take it in time.
        """
        start = time.monotonic()
        while self._opening_thread is not None and self._opening_thread.is_alive():
            self._opening_thread.join(SLICE_S)
            if self._is_late(start, is_hurried):
                return False
        while self._started:
            self._started[0].stop("the run ended")
            if self._started[0].join(SLICE_S):
                self._started.pop(0)
            elif self._is_late(start, is_hurried):
                return False
        return True

    def _is_late(self, start: float, is_hurried: Callable[[], bool]) -> bool:
        return time.monotonic() - start > (HURRY_S if is_hurried() else PATIENCE_S)

    def abandon(self, opened: Opened) -> None:
        """End a session that was opened after the run had ended."""
        if opened.recorder is not None:
            opened.recorder.stop("the run ended")
