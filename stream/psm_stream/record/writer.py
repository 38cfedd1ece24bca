"""The recorder: takes what the live loop sees and says, and writes it to a session folder from its own thread.

The live loop never waits for the disk. What it hands over is on disk within half a second; whatever goes wrong ends
the recording with a `recording.stopped` notice, and the stream goes on.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from psm_stream.config import RecordSettings
from psm_stream.errors import PsmError, SessionError
from psm_stream.record import adaptations, session
from psm_stream.record.adaptations import Handover, Recorded
from psm_stream.record.backlog import Backlog, Bound
from psm_stream.record.codec import Record, Start, Swap, VideoFrame
from psm_stream.record.log import LogWriter
from psm_stream.record.outside import Outside
from psm_stream.record.versions import versions
from psm_stream.record.video import VideoTrack
from psm_stream.values import Faces, Frame, Input, Marker, NoFace, Notice, Recluster, SwapEncoder
from psm_stream.wire.messages import Message

if TYPE_CHECKING:
    from psm_stream.encoder import Encoder

FLUSH_S = 0.2
"""What was handed over is with the operating system after so long, plus the time to write it."""

LIVE_BOUND = Bound(items=8192, size_bytes=64 * 2**20)
"""Half a minute at 30 fps: a disk may be away for so long before the recording ends."""

FAST_BOUND = Bound(items=256, size_bytes=8 * 2**20)
"""At the fast pace the live loop waits instead, so a short queue does, and a crash takes less with it."""

PATIENCE_S = 5.0
"""At the fast pace a disk that makes no room for so long has failed."""

DEFAULT_ROOT = Path("sessions")

_VIDEO_END_S = 5.0
_COPIES_END_S = 30.0
"""How long the end of a recording waits for what is copied aside."""
_ENTRY_BYTES = 512
"""What a queued item costs beyond its arrays."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the run looks like at the moment a recording starts.

    run: `session` of the message headers. config: the resolved settings as plain values. source: its name.
    encoder, model_epoch: what the pipeline uses now. waiting: a swap that was ordered and waits for the next frame.
    is_live: frames come from a camera or stream, so video keeps capture times. name: what the experiment calls it.
    """

    run: str
    config: Mapping[str, Any]
    source: str
    encoder: Encoder
    model_epoch: int = 0
    waiting: SwapEncoder | None = None
    is_live: bool = True
    name: str = ""


_Item: TypeAlias = "tuple[Record | SwapEncoder | Message, float]"
"""What waits to be written, and its time on the monotonic clock."""


class Recorder:
    """One recording. Make it with `Recorder.start`; every start is a new session folder.

    `input`, `message` and `adaptation` are for the main thread, `frame` for the capture thread. None of them waits for
    the disk, unless wait_when_full. After the end they do nothing.
    """

    def __init__(
        self,
        folder: Path,
        info: session.SessionInfo,
        file: BinaryIO,
        *,
        notify: Callable[[Notice], None],
        outside: Outside,
        wait_when_full: bool,
        min_free_bytes: float,
        bound: Bound,
        is_live: bool,
    ) -> None:
        self.folder = folder
        self._info = info
        self._file = file
        self._notify = notify
        self._outside = outside
        self._min_free_bytes = min_free_bytes
        self._backlog: Backlog[_Item] = Backlog(bound, PATIENCE_S if wait_when_full else 0.0)
        self._lock = threading.Lock()
        self._reason = ""
        self._has_failed = False
        self._is_announced = False
        self._video_ended = False
        self._inputs = 0
        self._messages = 0
        self._adaptations: list[Recorded | None] = []
        self._copies: list[threading.Thread] = []
        self._copying = threading.Lock()
        self._video: VideoTrack | None = None
        if info.video != "off":
            self._video = VideoTrack(
                folder / session.VIDEO,
                info.video,
                is_live=is_live,
                written=self._video_written,
                trouble=self._video_trouble,
                done=self._video_done,
                wait_s=PATIENCE_S if wait_when_full else 0.0,
            )
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @classmethod
    def start(
        cls,
        settings: RecordSettings,
        opening: Opening,
        notify: Callable[[Notice], None],
        *,
        outside: Outside | None = None,
        wait_when_full: bool = False,
        bound: Bound | None = None,
    ) -> Recorder:
        """Make a session folder and begin to record into it.

        notify is given `recording.started` now, `recording.stopped` exactly once later, `recording.video` when video
        frames begin to be lost, and `recording.incomplete` when an adaptation or a model's weights cannot be kept, the
        latter three from other threads; it must not wait.
        wait_when_full: `input`, `message` and `frame` wait for room instead of ending the recording (files at the
        fast pace).

        Raises SessionError: the folder cannot be written; DiskFull: there is too little room to begin.
        """
        outside = outside or Outside()
        root = (settings.root or DEFAULT_ROOT).resolve()
        min_free_bytes = settings.min_free_gb * 1e9
        outside.check_room(root, min_free_bytes)
        now = session.ClockPair(monotonic=outside.clock(), unix=outside.unix_clock())
        folder = session.new_session_folder(root, now.unix)
        info = session.SessionInfo(
            uuid=session.new_uuid(),
            run=opening.run,
            name=opening.name,
            started=now,
            source=session.redacted(opening.source),
            provider=opening.encoder.provider,
            models=(opening.encoder.model_id,),
            terms={opening.encoder.model_id: opening.encoder.bundle.manifest.terms},
            video=settings.video,
            config=session.redacted(opening.config),
            versions=versions(),
        )
        try:
            session.copy_bundle(opening.encoder.bundle, folder)
            session.write_info(folder, info)
            file = outside.create_file(folder / session.LOG)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise SessionError(f"cannot record into {folder}: {session.in_words(error)}") from None
        except PsmError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        recorder = cls(
            folder,
            info,
            file,
            notify=notify,
            outside=outside,
            wait_when_full=wait_when_full,
            min_free_bytes=min_free_bytes,
            bound=bound or (FAST_BOUND if wait_when_full else LIVE_BOUND),
            is_live=opening.is_live,
        )
        recorder._put(Start(opening.encoder.model_id, opening.model_epoch), now.monotonic)
        recorder._keep_weights(opening.encoder)
        if opening.waiting is not None:
            recorder.input(opening.waiting)
        notify(Notice("recording.started", now.monotonic, {"folder": str(folder), "name": opening.name}))
        return recorder

    @property
    def is_recording(self) -> bool:
        """Whether what is handed over is still kept."""
        return not self._reason

    @property
    def failure(self) -> str:
        """Why the recording ended by itself, or ""."""
        return self._reason if self._has_failed else ""

    def input(self, item: Input) -> None:
        """Record an input; before the pipeline takes it, so that the log has it before what follows from it."""
        self._put(item, _time_of(item, self._outside.clock))

    def message(self, message: Message) -> None:
        """Record a published message."""
        self._put(message, self._outside.clock())

    def frame(self, frame: Frame) -> None:
        """Record a captured picture, if video is on."""
        if self._video is not None and not self._reason:
            self._video.put(frame)

    def adaptation(self, handover: Handover) -> Future[Path | None]:
        """Keep an adaptation that has ended, with its model, in a thread of its own.

        The future gives its folder when all is copied, or None: it cannot be, `recording.incomplete` says why, and the
        log goes on.
        """
        done: Future[Path | None] = Future()
        if self._reason:
            done.set_result(None)
            return done
        place = len(self._adaptations)
        self._adaptations.append(None)

        def copy() -> None:
            try:
                self._check_room(adaptations.size_of(handover))
                self._adaptations[place] = adaptations.keep(handover, self.folder, f"{place + 1:03d}")
            finally:
                kept = self._adaptations[place]
                done.set_result(None if kept is None else kept.folder)

        self._copy_aside(copy, f"adaptation {place + 1:03d}")
        return done

    def stop(self, reason: str = "asked to stop") -> None:
        """Ask for the end; what was handed over is still written. Returns at once, `recording.stopped` follows."""
        with self._lock:
            if self._reason:
                return
            self._reason = reason
        if self._video is not None:
            self._video.close()
        with self._lock:
            has_more = self._video is not None and not self._video_ended
        if not has_more:  # else the backlog is closed when the last video frame's place is logged
            self._backlog.close()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until everything is written. Returns False when that takes longer: the disk hangs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def status(self) -> dict[str, Any]:
        """Return how far the recording is, as plain values."""
        video = {"video_frames": self._video.frames, "video_dropped": self._video.dropped()} if self._video else {}
        return {
            "folder": str(self.folder),
            "recording": self.is_recording,
            "inputs": self._inputs,
            "messages": self._messages,
            "queued": len(self._backlog),
            "queued_mb": round(self._backlog.size_bytes / 1e6, 3),
            **video,
        }

    def _put(self, item: Record | SwapEncoder | Message, t: float) -> None:
        if self._reason or self._backlog.put((item, t), _size_of(item)) or self._backlog.closed:
            return
        waiting_mb = self._backlog.size_bytes / 1e6
        self._fail(f"the disk is too slow: {len(self._backlog)} records ({waiting_mb:.0f} MB) wait to be written")

    def _run(self) -> None:
        try:
            log = LogWriter(self._file)
            self._write_until_end(log)
            log.finish()
            self._outside.sync_file(self._file)
            finish = self._finish()
            is_copying = any(thread.is_alive() for thread in self._copies)
            self._write_finished(finish)
            if is_copying:  # only now, so that a copy that hangs leaves a finished session, too
                self._await_copies()
                self._write_finished(finish)
        except OSError as error:
            self._fail(f"cannot write to {self.folder}: {session.in_words(error)}")
        finally:
            self._close_file()
            self._announce_stop()

    def _write_until_end(self, log: LogWriter) -> None:
        """Write until nothing more comes, or something other than the disk fails; the log can then be ended whole."""
        try:
            self._write_all(log)
        except OSError:
            raise
        except PsmError as error:
            self._fail(str(error))
        except Exception as error:  # a defect, too, must reach the people and not die with this thread
            self._fail(f"the recorder failed: {type(error).__name__}: {' '.join(str(error).split())}")

    def _write_all(self, log: LogWriter) -> None:
        while True:
            is_last = self._backlog.closed
            batch = self._backlog.take(FLUSH_S)
            for item, t in batch:
                self._write(log, item, t)
            if batch:
                log.flush()
                self._outside.sync_file(self._file)
            elif is_last:
                return
            self._watch_disk()

    def _write(self, log: LogWriter, item: Record | SwapEncoder | Message, t: float) -> None:
        log_ns = self._info.started.unix_ns(t)
        if isinstance(item, Message):
            log.write_message(item, log_ns)
            self._messages += 1
            return
        if isinstance(item, SwapEncoder):
            self._keep_model(item.encoder)
            item = Swap(item.encoder.model_id, item.reason)
        log.write_record(item, log_ns)
        if not isinstance(item, Start | VideoFrame):
            self._inputs += 1

    def _keep_model(self, encoder: Encoder) -> None:
        """Copy the bundle before the swap is logged, so that a log never names a model that is not there."""
        try:
            session.copy_bundle(encoder.bundle, self.folder)
        except OSError as error:
            raise SessionError(f"cannot keep model {encoder.model_id}: {session.in_words(error)}") from None
        if encoder.model_id not in self._info.models:
            models = (*self._info.models, encoder.model_id)
            terms = {**self._info.terms, encoder.model_id: encoder.bundle.manifest.terms}
            self._info = self._info.model_copy(update={"models": models, "terms": terms})
            session.write_info(self.folder, self._info)
        self._keep_weights(encoder)

    def _keep_weights(self, encoder: Encoder) -> None:
        """Copy the checkpoint that a model may have, so that a training that started from it can be repeated."""

        def copy() -> None:
            checkpoint = adaptations.checkpoint_of(encoder.bundle.folder)
            if checkpoint is not None:
                adaptations.keep_checkpoint(checkpoint, self.folder, encoder.model_id)

        self._copy_aside(copy, f"the weights of {encoder.model_id}")

    def _copy_aside(self, copy: Callable[[], object], what: str) -> None:
        """Run a copy in a thread, one after another; what goes wrong is told, and the log goes on."""

        def work() -> None:
            try:
                with self._copying:
                    copy()
            except OSError as error:
                self._tell_incomplete(what, session.in_words(error))
            except PsmError as error:
                self._tell_incomplete(what, str(error))
            except Exception as error:  # a defect, too, must reach the people and not die with this thread
                self._tell_incomplete(what, f"{type(error).__name__}: {' '.join(str(error).split())}")

        thread = threading.Thread(target=work, name="keep", daemon=True)
        self._copies.append(thread)
        thread.start()

    def _tell_incomplete(self, what: str, why: str) -> None:
        about = {"folder": str(self.folder), "reason": f"{what} cannot be kept: {why}"}
        self._notify(Notice("recording.incomplete", self._outside.clock(), about))

    def _await_copies(self) -> None:
        end = time.monotonic() + _COPIES_END_S
        for thread in self._copies:
            thread.join(max(end - time.monotonic(), 0.0))

    def _check_room(self, size_bytes: int) -> None:
        free = self._outside.free_bytes(self.folder) - size_bytes
        if free < self._min_free_bytes:
            raise SessionError(f"the disk is nearly full: {self._min_free_bytes / 1e9:g} GB are kept free")

    def _watch_disk(self) -> None:
        if self._reason:
            return
        free = self._outside.free_bytes(self.folder)
        if free < self._min_free_bytes:
            self._fail(f"the disk is nearly full: {free / 1e9:.2f} GB free, {self._min_free_bytes / 1e9:g} GB are kept")

    def _finish(self) -> session.Finish:
        video = self._video
        if video is not None and not video.join(_VIDEO_END_S):
            raise OSError(f"the video does not end within {_VIDEO_END_S:g} s")
        return session.Finish(
            at=session.ClockPair(monotonic=self._outside.clock(), unix=self._outside.unix_clock()),
            reason=self._reason,
            failed=self._has_failed,
            inputs=self._inputs,
            messages=self._messages,
            video_frames=video.frames if video else 0,
            video_dropped=video.dropped() if video else {},
        )

    def _write_finished(self, finish: session.Finish) -> None:
        kept = tuple(recorded.entry for recorded in self._adaptations if recorded is not None)
        session.write_info(self.folder, self._info.model_copy(update={"adaptations": kept, "finished": finish}))

    def _fail(self, reason: str) -> None:
        """End the recording for a reason that people must hear now."""
        with self._lock:
            self._reason = reason  # also when it was ending anyway: what is announced is the failure
            self._has_failed = True
        if self._video is not None:
            self._video.close()
        self._backlog.close()
        self._announce_stop()

    def _video_done(self) -> None:
        """The last frame's place is logged, or video has failed and the log goes on without it."""
        with self._lock:
            self._video_ended = True
            is_stopping = bool(self._reason)
        if is_stopping:
            self._backlog.close()

    def _announce_stop(self) -> None:
        with self._lock:
            if self._is_announced:
                return
            self._is_announced = True
        status = {"inputs": self._inputs, "messages": self._messages}
        about = {"folder": str(self.folder), "reason": self._reason, "failed": self._has_failed, **status}
        self._notify(Notice("recording.stopped", self._outside.clock(), about))

    def _close_file(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._fail(f"cannot write to {self.folder}: {session.in_words(error)}")

    def _video_written(self, place: VideoFrame) -> None:
        self._backlog.put((place, self._outside.clock()), _ENTRY_BYTES, force=True)

    def _video_trouble(self, words: str) -> None:
        self._notify(Notice("recording.video", self._outside.clock(), {"folder": str(self.folder), "reason": words}))


def _time_of(item: Input, clock: Callable[[], float]) -> float:
    if isinstance(item, Faces | NoFace):
        return item.frame.t_capture
    return item.t if isinstance(item, Marker) else clock()


def _size_of(item: Record | SwapEncoder | Message) -> int:
    if isinstance(item, Message):
        return _ENTRY_BYTES + len(item.header) + len(item.payload)
    if isinstance(item, Recluster):
        return _ENTRY_BYTES + sum(array.nbytes for array in item.clustering.fitted.values())
    if isinstance(item, Faces):
        return _ENTRY_BYTES + sum(face.crop.nbytes + face.landmarks.nbytes + _ENTRY_BYTES for face in item.faces)
    return _ENTRY_BYTES
