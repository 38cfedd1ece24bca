"""The process that trains: started, listened to, watched and ended by one thread, which never makes the stream wait.

What the process writes goes to two files, its events beside its log, and the thread looks ten times a second what is
new. So nothing that the process does can block this side: no pipe fills up, and no child of its child holds one open.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from psm_stream.adaptation.events import Done, Failed, Rejected, WorkerEvent, one_line, read_event
from psm_stream.errors import AdaptationError, ConfigError

TICK_S = 0.1
"""How often the thread looks; an event is heard and an end seen at most so much later."""
GRACE_S = 60.0
"""A worker keeps to its budget by itself, and then checks and exports; so long after its budget it is killed."""
PATIENCE_S = 2.0
"""How long a worker that was told to stop may take."""
FAREWELL_S = 10.0
"""How long a worker may take to leave after its last event."""
MAX_GARBAGE = 100
"""Lines that are no events; with more of them the worker is not one."""
MAX_LINE = 1 << 20
"""Bytes of one line."""
MAX_WRITTEN = 64 << 20
"""Bytes of events, and of log, that a worker may write."""
_CHUNK = 1 << 18
_TAIL = 4096

Clock: TypeAlias = Callable[[], float]
Terminal: TypeAlias = Done | Rejected | Failed


class WorkerProcess:
    """One run of an adaptation worker. Each method may be called from any thread, and none waits but `join`.

    Args:
        command: The worker and its arguments.
        post: Is given each event, in order, in the thread of this object; the last is exactly one of Done, Rejected,
            Failed, whatever happens, and is given when the process is gone. It must not raise.
        clock: Monotonic, seconds.
        silence_s: The process is killed when it says nothing for so long.
        budget_s: The process is killed when it is older than this and GRACE_S.
        log: File for its stderr, made anew; what it says on stdout goes beside it, into <stem>.events.jsonl. Their
            folder must exist.
    """

    def __init__(
        self,
        command: Sequence[str],
        post: Callable[[WorkerEvent], None],
        *,
        clock: Clock,
        silence_s: float,
        budget_s: float,
        log: Path,
    ) -> None:
        self._command = tuple(command)
        self._post = post
        self._clock = clock
        self._silence_s = silence_s
        self._budget_s = budget_s
        self._log = log
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)

    def start(self) -> None:
        """Start the process, in the thread: forking takes its time. Once only."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the process to end, and kill it when it has not after PATIENCE_S. The last event is Failed then."""
        self._stopping = True
        self._wake.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the process is gone and the last event given. Returns False when it is not yet."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Started, and the last event is not given yet."""
        return self._thread.is_alive()

    def _work(self) -> None:
        try:
            end = self._run()
        except OSError as error:  # no such program, no such folder, no process or descriptor left
            end = Failed(f"the worker could not be run: {one_line(str(error))}")
        except Exception as error:  # a defect here must not leave the stream waiting for an end
            end = Failed(f"unexpected {type(error).__name__} beside the worker: {one_line(str(error))}")
        self._post(Failed("stopped", was_stopped=True) if self._stopping else end)

    def _run(self) -> Terminal:
        if self._stopping:
            return Failed("stopped", was_stopped=True)
        said = self._log.with_name(f"{self._log.stem}.events.jsonl")
        with said.open("wb") as to_events, self._log.open("wb") as to_log:
            process = _start(self._command, to_events, to_log)
        try:
            with said.open("rb") as events:
                end = self._watch(process, _Lines(events))
        finally:
            _end(process)
        return end

    def _watch(self, process: subprocess.Popen[bytes], lines: _Lines) -> Terminal:
        """Listen until the process is gone. Returns how it ended; it is killed when it must not go on."""
        started = heard = self._clock()
        is_told = False
        leave_by: float | None = None
        end: Terminal | None = None
        while True:
            is_gone = process.poll() is not None  # asked first, so that what it said last is read
            events = lines.read(MAX_WRITTEN if is_gone else MAX_LINE)
            now = self._clock()
            for event in events:
                heard = now
                if end is None and isinstance(event, Done | Rejected | Failed):
                    end, leave_by = event, now + FAREWELL_S
                elif end is None and not self._stopping:
                    self._post(event)
            if is_gone:
                return _judged(end or Failed(self._why(process.returncode, lines.complaint)), process.returncode)
            if self._stopping and not is_told:
                is_told, leave_by = True, now + PATIENCE_S
                process.terminate()
            if leave_by is not None and now > leave_by:
                return end or Failed("stopped", was_stopped=True)
            if leave_by is None and (why := self._broken(now - started, now - heard, lines)):
                return Failed(why)
            self._wake.wait(TICK_S)
            self._wake.clear()

    def _broken(self, age_s: float, silent_s: float, lines: _Lines) -> str:
        """Why a running process must be killed, or ""."""
        if silent_s > self._silence_s:
            return f"killed: it was silent for {self._silence_s:g} s{self._last_words()}"
        if age_s > self._budget_s + GRACE_S:
            return f"killed: its budget was {self._budget_s:g} s, and {GRACE_S:g} s later it still ran"
        if lines.garbage > MAX_GARBAGE:
            return f"killed: it wrote more than {MAX_GARBAGE} lines that are no events; {lines.complaint}"
        if max(lines.size(), self._log.stat().st_size) > MAX_WRITTEN:
            return f"killed: it wrote more than {MAX_WRITTEN >> 20} MB of text{self._last_words()}"
        return ""

    def _why(self, code: int, complaint: str) -> str:
        """Say how a process ended that gave no result."""
        if code == 0:
            how = "ended without a result"
        elif code > 0:
            how = f"ended with exit code {code}"
        else:
            how = f"killed by signal {-code}" + ("; perhaps out of memory" if code == -9 else f" ({_name(-code)})")
        return one_line(f"{how}{self._last_words()}" + (f"; {complaint}" if complaint else ""))

    def _last_words(self) -> str:
        """Return the last line of the log, to be added to a reason; of a traceback that is its error."""
        with suppress(OSError), self._log.open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - _TAIL, 0))
            lines = [one_line(line) for line in log.read(_TAIL).decode(errors="replace").splitlines()]
            last = next((line for line in reversed(lines) if line), "")
            return f": {last.removeprefix('error: ')}" if last else ""
        return ""


def _judged(end: Terminal, code: int) -> Terminal:
    """Tell a failure for good by the worker's exit code."""
    return replace(end, is_for_good=True) if isinstance(end, Failed) and code == ConfigError.exit_code else end


class _Lines:
    """Events from a file that grows. complaint: what was wrong with the last line that was none. garbage: how many."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._line = b""
        self._is_long = False
        self.garbage = 0
        self.complaint = ""

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def read(self, most: int) -> list[WorkerEvent]:
        """Read what is new, up to so many bytes. The last line counts when it has an end."""
        found: list[WorkerEvent] = []
        while most > 0 and (chunk := self._file.read(min(_CHUNK, most))):
            most -= len(chunk)
            *whole, rest = (self._line + chunk).split(b"\n")
            for line in whole:
                self._take(line, found)
            self._line = rest
            if len(rest) > MAX_LINE:  # keep no more of it than its end may need
                self._line, self._is_long = b"", True
        return found

    def _take(self, line: bytes, found: list[WorkerEvent]) -> None:
        if not line.strip() and not self._is_long:
            return
        try:
            if self._is_long:
                raise AdaptationError(f"the worker wrote a line of more than {MAX_LINE >> 20} MB")
            found.append(read_event(line))
        except AdaptationError as error:
            self.garbage += 1
            self.complaint = one_line(str(error))
        self._is_long = False


def _start(command: Sequence[str], events: BinaryIO, log: BinaryIO) -> subprocess.Popen[bytes]:
    """Start the process. Its stdin is a pipe that nothing is written to: it ends when this process does, however.

    It makes a process group of its own by itself (Popen's process_group needs Python 3.11), so that Ctrl-C in the
    terminal does not reach it; not a session: Linux weighs niceness only among the processes of a session.

    PYTHONSAFEPATH (from Python 3.11): no module is taken from the folder that the experiment runs in, which `-m` would
    look in first.
    """
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS
    surroundings = {**os.environ, "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=events, stderr=log, env=surroundings, creationflags=flags
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process and of its children, and reap it."""
    process.kill()
    if sys.platform != "win32":
        with suppress(OSError):  # usually nothing is left
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # it hangs in a driver, where nothing ends it
        process.wait(PATIENCE_S)
    if process.stdin is not None:
        process.stdin.close()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "no name"
