"""The capture thread: reads a source, numbers and stamps its frames, keeps a file's timing, retries what was lost.

It owns the source. Frames leave through the slot, and so does the error that ends it; announcements
(`source.lost`, `source.back`, `source.slow`) leave through `notify`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError, SourceLost
from psm_stream.pacing import Pacer
from psm_stream.slot import Slot
from psm_stream.sources import Clock, Picture, Skipped, Source
from psm_stream.values import NAN, Frame, Notice, Stamp

_JOIN_POLL_S = 0.05


@dataclass
class _Outage:
    """A source that is gone. since: when that was found out. wait_s: from the next try to the one after."""

    since: float
    wait_s: float
    next_try: float
    attempts: int = 0


class Capture:
    """One run over one source. `start`, `stop` and `join` are for the main thread, the rest is the capture thread's."""

    def __init__(
        self,
        source: Source,
        slot: Slot,
        clock: Clock,
        notify: Callable[[Notice], None],
        settings: SourceSettings,
        *,
        max_frames: int | None = None,
        max_seconds: float | None = None,
        opened: Callable[[], None] = lambda: None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Nothing happens before `start`.

        notify: takes announcements, on the capture thread; must not wait.
        max_frames: end after so many captured frames, the dropped ones included.
        max_seconds: end so long after the source was opened.
        opened: called once, on the capture thread, when the source is open and before its first frame.
        wait: sleeps for so many seconds of `clock`, less if `stop` is called; by default in real time.
        """
        self._source = source
        self._slot = slot
        self._clock = clock
        self._notify = notify
        self._opened = opened
        self._settings = settings
        self._max_frames = max_frames if max_frames is not None else float("inf")
        self._max_seconds = max_seconds if max_seconds is not None else float("inf")
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._thread = threading.Thread(target=self.run, name="capture", daemon=True)
        self._pacer: Pacer | None = None
        self._outage: _Outage | None = None
        self._deadline = float("inf")
        self._t_last = NAN
        self._dropped: Counter[str] = Counter()
        self.captured = 0
        """Frames that the source gave so far, the dropped ones included."""
        self.ended = False
        """True once no frame follows, for whatever reason."""

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end and return at once. Frames that wait in the slot are discarded (cause "stop")."""
        self._stopping.set()
        self._slot.close()
        self._interrupt()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended; False if it has not within `timeout` s (a source that hangs)."""
        left_s = float("inf") if timeout is None else timeout
        while self._thread.is_alive() and left_s > 0:
            self._thread.join(min(_JOIN_POLL_S, left_s))
            left_s -= _JOIN_POLL_S
            self._interrupt()
        return not self._thread.is_alive()

    def run(self) -> None:
        """Read until the source ends, `stop` is called or a limit is reached. The body of the thread."""
        error: BaseException | None = None
        try:
            self._play()
        except BaseException as failure:  # the reader of the slot gets it, whatever it is
            if not (self._stopping.is_set() and isinstance(failure, SourceError)):
                error = failure
        self._slot.end(error, self._dropped)
        self.ended = True

    def _play(self) -> None:
        try:
            self._source.open()
            self._opened()
            self._deadline = self._clock() + self._max_seconds
            if self._settings.pace == "live" and not self._source.is_live:
                self._pacer = Pacer(self._source.fps)
            while self._is_wanted() and self._take_one():
                pass
        finally:
            self._source.close()

    def _is_wanted(self) -> bool:
        return not self._stopping.is_set() and self.captured < self._max_frames and self._clock() < self._deadline

    def _take_one(self) -> bool:
        """Read once. Returns False at the end of the source."""
        try:
            picture = self._source.read()
        except SourceLost as lost:
            if not self._source.is_live or self._stopping.is_set():
                raise
            self._reopen(lost)
            return True
        if isinstance(picture, Skipped):
            self._drop(picture.cause, picture.count)
        elif picture is not None:
            self._announce_back()
            self._accept(picture)
        return picture is not None

    def _accept(self, picture: Picture) -> None:
        t_capture = picture.t_capture
        if self._pacer is not None:
            due = self._pace(self._pacer, picture.t_source)
            if due is None:
                return
            t_capture = due
        stamp = Stamp(self.captured, t_capture, picture.t_source, picture.label, dict(self._dropped))
        self._dropped.clear()
        self.captured += 1
        self._t_last = t_capture
        self._slot.put(Frame(stamp, picture.image))

    def _pace(self, pacer: Pacer, t_source: float) -> float | None:
        """Wait until the picture is due. Returns when that was; None: too late, or the run ends before it is due."""
        now = self._clock()
        was_slow = pacer.is_slow
        due = pacer.schedule(t_source, now)
        if due is None:
            self._drop("slot", 1)
            return None
        if pacer.is_slow and not was_slow:
            self._notify(Notice("source.slow", now, {"source": self._source.name}))
        self._sleep_until(due)
        return due if self._is_wanted() else None

    def _drop(self, cause: str, count: int) -> None:
        count = int(min(count, self._max_frames - self.captured))
        if count > 0:
            self._dropped[cause] += count
            self.captured += count

    def _reopen(self, lost: SourceLost) -> None:
        """Try until the source opens, for as long as the run is wanted; whether it works, its first picture tells."""
        outage = self._outage or self._announce_lost(lost)
        self._source.close()
        while True:
            self._sleep_until(outage.next_try)
            if not self._is_wanted():
                return
            outage.next_try = self._clock() + outage.wait_s
            outage.wait_s = min(2 * outage.wait_s, self._settings.retry_max_s)
            outage.attempts += 1
            try:
                self._source.open()
                return
            except SourceError:
                self._source.close()

    def _announce_lost(self, lost: SourceLost) -> _Outage:
        now = self._clock()
        wait_s = min(self._settings.retry_s, self._settings.retry_max_s)
        self._outage = _Outage(since=now, wait_s=min(2 * wait_s, self._settings.retry_max_s), next_try=now + wait_s)
        self._notify(
            Notice("source.lost", now, {"source": self._source.name, "error": str(lost), "t_last": self._t_last})
        )
        return self._outage

    def _announce_back(self) -> None:
        if self._outage is None:
            return
        now = self._clock()
        fields = {
            "source": self._source.name,
            "seconds_lost": now - self._outage.since,
            "attempts": self._outage.attempts,
        }
        self._outage = None
        self._notify(Notice("source.back", now, fields))

    def _sleep_until(self, t: float) -> None:
        wait_s = min(t, self._deadline) - self._clock()
        if wait_s > 0:
            self._wait(wait_s)

    def _interrupt(self) -> None:
        # An open or read that waits for a live source returns at once when the source is closed under it.
        if self._stopping.is_set() and self._source.is_live:
            self._source.close()
